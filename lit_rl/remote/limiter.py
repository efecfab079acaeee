"""The rate limiter keeps the ratio of updates to env steps in both directions.

The learner waits until the env steps of its next update are there. Actors wait when they are a window of
chunks beyond them (the idea of samples per insert, Cassirer 2021, arXiv:2102.04736).
"""

from __future__ import annotations


def credit(
    received: int, arrived_steps: int, needed_steps: int, chunk_steps: int, window: int, num_actors: int,
    random_steps: int,
) -> tuple[int, int]:  # fmt: skip
    """Compute up to which chunk an actor may play, and up to which one at random.

    What is left is divided evenly over the actors; each may play at least as far as it has.

    Args:
        received: Number of its newest chunk that arrived.
        arrived_steps: Env steps of all actors that arrived.
        needed_steps: Env steps that must be there before the next update.
        chunk_steps: Env steps in a chunk.
        window: Chunks that all actors together may be beyond it.
        num_actors: Actors that are connected.
        random_steps: Env steps that are still to be played at random.

    Returns:
        Numbers of two chunks.
    """
    room = needed_steps + window * chunk_steps - arrived_steps
    of_each = num_actors * chunk_steps
    return received + max(0, -(-room // of_each)), received + max(0, -(-random_steps // of_each))
