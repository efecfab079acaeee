"""What ``lit-rl predict`` writes: trajectories, and transitions from which other learners can learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from lit_rl.cli.errors import CommandError
from lit_rl.data.demonstrations import write_demonstrations
from lit_rl.data.replay import transitions
from lit_rl.files import replacing
from lit_rl.types import EnvSpec, Rollout


def write_trajectories(directory: Path, trajectories: Sequence[Rollout], spec: EnvSpec) -> Iterator[str]:
    """Write ``trajectories.pt``, and for continuous actions of one agent ``demonstrations.safetensors``.

    Args:
        directory: Where they are written; files of these names are replaced.
        trajectories: What ``Trainer.predict`` returned: one rollout.
        spec: The environment.

    Yields:
        One line about each file that was written.

    Raises:
        CommandError: A file cannot be written.
    """
    path = directory / "trajectories.pt"
    try:
        with replacing(path) as beside, beside.open("xb") as file:
            torch.save(trajectories, file)
        yield f"written {path}\n"
        if not spec.agents and spec.action.kind == "box":
            path = directory / "demonstrations.safetensors"
            number = write_demonstrations(path, transitions(trajectories[0]))
            yield f"written {path}: {number} transitions\n"
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}", 1) from error
