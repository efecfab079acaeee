"""Learners and actors on the loopback of one process, for tests of what is between them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from lit_rl.envs.vector import make_vector_env
from lit_rl.remote.actor import Actor
from lit_rl.remote.link import Link, Turn
from lit_rl.remote.policy import Description
from lit_rl.remote.receiver import Receiver, known_actors
from lit_rl.remote.server import LearnerServer
from lit_rl.remote.service import Security, spec_text
from lit_rl.types import Rollout

STEPS = 4


class Counts(gymnasium.Env):
    """Observes its mark and how many steps it has taken in all, so that each transition has a name."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-2, 2, (1,), np.float32)
    marks = iter(range(1_000_000))

    def __init__(self, length: int = 7) -> None:
        self._mark, self._length, self._count = next(Counts.marks), length, 0

    def _obs(self) -> np.ndarray:
        return np.array([self._mark, self._count], np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return self._obs(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self._count += 1
        return self._obs(), float(self._count), False, self._count % self._length == 0, {}


SPEC = make_vector_env(Counts, 1, check=False).spec


def arrays_of(policy: float = 0.0, features: int = 2, actions: int = 1) -> dict[str, np.ndarray]:
    """A policy of one layer whose means are ``policy``."""
    return {
        "weight/0": np.zeros((features, 2 * actions), np.float32),
        "bias/0": np.full(2 * actions, policy, np.float32),
        "middle": np.zeros(actions, np.float32),
        "scale": np.full(actions, 2.0, np.float32),
    }


DESCRIPTION = Description("squashed_normal", "relu")


class Learner:
    """A receiver that takes whatever comes, without a trainer."""

    def __init__(self, state: dict[str, Any] | None = None, port: int = 0, **kwargs: Any) -> None:
        window = kwargs.pop("window", 4)
        self.server = LearnerServer(
            spec_text(SPEC.to_dict()), state["run"] if state else kwargs.pop("run", "run"), STEPS, 1, window,
            kwargs.pop("max_actors", 2), kwargs.pop("host", "127.0.0.1"), port, kwargs.pop("security", None),
            known_actors(state), state["num_joined"] if state else 0,
        )  # fmt: skip
        self.receiver = Receiver(self.server, SPEC, 1, STEPS, window)
        if state:
            self.receiver.set_state(state)
        self.taken: list[Rollout] = []
        self.random: list[bool] = []

    @property
    def port(self) -> int:
        return self.server.port

    def publish(self, version: int = 0, policy: float = 0.0) -> None:
        self.receiver.publish(version, DESCRIPTION, arrays_of(policy))

    def take(self, num_steps: int, timeout_s: float = 10.0, warmup: int = 0) -> None:
        """Take until there are ``num_steps`` env steps in all."""
        deadline = time.monotonic() + timeout_s
        while self.receiver.inserted_steps < num_steps:
            assert time.monotonic() < deadline, (self.receiver.inserted_steps, self.server.counts)
            self.receiver.grant(num_steps, warmup)
            if (taken := self.receiver.take(0.05)) is not None:
                self.taken.append(taken[0])
                self.random.append(taken[1])

    def rewards(self) -> list[float]:
        """Every reward that was taken, which counts the steps of its environment."""
        return [float(r) for rollout in self.taken for r in rollout["reward"].flatten()]

    def allow(self, actor: ByHand, num_steps: int = 4_000) -> None:
        """Let it play as far as ``num_steps`` env steps in all, once it is here."""

        def may_play() -> bool:
            self.receiver.grant(num_steps, 0)
            return actor.link.turn(0.0) is not None

        eventually(may_play)

    def close(self, is_over: bool = False) -> None:
        self.server.close(is_over)


class Player:
    """An actor in a thread of its own."""

    def __init__(self, port: int, name: str = "a", **kwargs: Any) -> None:
        seed = kwargs.pop("seed", 0)
        self.kwargs = {key: kwargs.pop(key) for key in ("rate_hz", "swap", "tell") if key in kwargs}
        self.env = make_vector_env(Counts, 1, check=False)
        self.link = Link("127.0.0.1", port, name, self.env.spec, 1, **kwargs)
        self.is_asked_to_stop = False
        self.error: BaseException | None = None
        self._actor = Actor(self.env, self.link, seed, **self.kwargs)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.link.start()
        self._thread.start()

    def _run(self) -> None:
        try:
            self._actor.run(None, lambda: self.is_asked_to_stop)
        except Exception as error:
            self.error = error

    def end(self, timeout_s: float = 5.0) -> None:
        """Wait until the learner has ended it."""
        self._thread.join(timeout_s)
        assert not self._thread.is_alive()

    def stop(self) -> None:
        self.is_asked_to_stop = True
        self._thread.join(5.0)
        self.link.close()
        self.env.close()


class ByHand:
    """A link whose chunks the test makes itself: its rewards count on from 1."""

    def __init__(self, port: int, name: str = "a", start: bool = True, **kwargs: Any) -> None:
        self.link = Link("127.0.0.1", port, name, SPEC, 1, **kwargs)
        self.count = 0
        if start:
            self.link.start()

    def turn(self, timeout_s: float = 5.0) -> Turn:
        turn = self.link.turn(timeout_s)
        assert turn is not None
        return turn

    def send(self, turn: Turn | None = None, **changed: Any) -> None:
        """Send the next chunk."""
        turn = turn or self.turn()
        self.link.send(chunk(self.count, turn.steps) | changed, turn.policy.version, turn)
        self.count += turn.steps

    def close(self) -> None:
        self.link.close()


def chunk(count: int = 0, steps: int = STEPS) -> dict[str, np.ndarray]:
    """A chunk of one environment that has taken ``count`` steps before."""
    numbers = np.arange(count, count + steps + 1, dtype=np.float32)
    flags = np.zeros((steps, 1), bool)
    return {
        "obs": np.stack([np.zeros_like(numbers), numbers], -1)[:, None],
        "reset": np.zeros((steps + 1, 1), bool),
        "action": np.zeros((steps, 1, 1), np.float32),
        "reward": numbers[1:, None].copy(),
        "terminated": flags,
        "truncated": flags.copy(),
    }


@contextmanager
def closing(*parts: Any) -> Iterator[None]:
    """Close all, whatever happens."""
    try:
        yield
    finally:
        for part in parts:
            part.stop() if isinstance(part, Player) else part.close()


def eventually(condition: Callable[[], Any], timeout_s: float = 10.0) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def security(**kwargs: Any) -> Security:
    return Security(**{name: str(path) for name, path in kwargs.items()})
