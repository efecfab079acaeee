"""The trainer makes rollouts of chunks from elsewhere, and says how far actors may be ahead.

Axes: T steps, N environments.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from lit_rl import metrics
from lit_rl.collect.episodes import RunningEpisodes, action_norms
from lit_rl.nested import map_nested
from lit_rl.remote.limiter import credit
from lit_rl.remote.policy import Description, policy_frame
from lit_rl.remote.recording import read_chunk
from lit_rl.remote.server import LearnerServer
from lit_rl.remote.sessions import Arrival, Known
from lit_rl.remote.wire import Frame, FrameReader, WireError, flatten, messages
from lit_rl.types import EnvSpec, Rollout

_log = logging.getLogger("lit_rl")

MAX_REJECTED = 10
"""Chunks one after the other that may be unusable, before training stops."""


class Receiver:
    """Takes chunks from a server in the trainer's thread, and counts what it takes.

    Args:
        server: Server at which they arrive.
        spec: Observation and action of the environment.
        num_envs: Environments N of each actor.
        chunk_steps: Steps T of a chunk.
        window: Chunks that an actor may be ahead of what the learner needs next.

    Attributes:
        inserted_steps: Env steps that were taken.
        random_steps: Number of them that were played at random.
        missing_steps: Env steps that were played and will never come.
    """

    def __init__(
        self, server: LearnerServer, spec: EnvSpec, num_envs: int, chunk_steps: int, window: int
    ) -> None:
        self.server, self._spec, self._num_envs = server, spec, num_envs
        self._chunk, self._window = chunk_steps * num_envs, window
        self.inserted_steps = self.random_steps = self.missing_steps = 0
        self._form: tuple[Any, ...] | None = None  # what all chunks have in common
        self.rejected = {"chunks": 0, "in_a_row": 0}
        self._running: dict[str, tuple[str, RunningEpisodes]] = {}
        self._last: str = ""  # actor and incarnation of the newest chunk
        self._published = -1
        self._told = 0.0

    def publish(self, version: int, description: Description, arrays: dict[str, np.ndarray]) -> None:
        """Send the policy of this version to all actors, once."""
        if version != self._published:
            self._published = version
            self.server.publish(version, policy_frame(version, description, arrays).encode())

    def grant(self, needed_steps: int, warmup_steps: int) -> None:
        """Tell all actors how far they may play, and up to where at random.

        Args:
            needed_steps: Env steps that must be there before the next update.
            warmup_steps: Env steps that are played at random.
        """
        live = self.server.live()
        waiting = self.server.num_waiting * self._chunk
        for incarnation, realtime, received in live:
            until, random_until = credit(
                received, self.inserted_steps + waiting, needed_steps, self._chunk, self._window,
                len(live), max(0, warmup_steps - self.random_steps - waiting),
            )  # fmt: skip
            self.server.grant(incarnation, 2**61 if realtime else until, random_until)

    @property
    def has_realtime(self) -> bool:
        """Whether an actor is connected that does not wait."""
        return any(realtime for _, realtime, _ in self.server.live())

    def take(self, timeout_s: float) -> tuple[Rollout, bool, bool] | None:
        """Take the next chunk as a rollout.

        Args:
            timeout_s: Longest time to wait for one.

        Returns:
            The rollout, whether it was played at random, and whether it goes on where the one before it
            ended; None where none came, or it was unusable.

        Raises:
            FloatingPointError: Too many chunks one after the other were unusable.
        """
        arrival = self.server.take(timeout_s)
        if arrival is None:
            self._warn_of_no_actor()
            return None
        if arrival.frame.kind == "skip":
            self.missing_steps += arrival.missing * self._chunk
            self._last = ""  # what comes next does not follow
            self._running.pop(arrival.actor, None)
            _log.warning("%d chunks of actor %s will never come", arrival.missing, arrival.actor)
            return None
        try:
            parts = read_chunk(arrival.frame, self._spec, self._num_envs)
            self._check_form(parts)
        except (WireError, FloatingPointError) as error:
            self._reject(arrival, error)
            return None
        self.rejected["in_a_row"] = 0
        rollout = self._rollout(arrival, parts)
        at_random = bool(arrival.frame.header["at_random"])
        self.inserted_steps += rollout["new_steps"]
        self.random_steps += rollout["new_steps"] if at_random else 0
        key = f"{arrival.incarnation}/{arrival.actor}"
        follows, self._last = key == self._last, key
        return rollout, at_random, follows

    def _check_form(self, parts: dict[str, Any]) -> None:
        """Refuse a chunk that cannot follow those before it in one ring.

        Raises:
            WireError: It has other metrics, or rewards of another shape.
        """
        form = (sorted(parts["metrics"]), parts["reward"].shape[2:])
        self._form = self._form or form
        if form != self._form:
            raise WireError(
                f"its metrics and the shape of a reward are {form}, those before it had {self._form}; give "
                "actors and learner the same data.record and data.env_kwargs"
            )

    def _reject(self, arrival: Arrival, error: Exception) -> None:
        self.rejected["chunks"] += 1
        self.rejected["in_a_row"] += 1
        self._last = ""  # what comes next does not follow
        self._running.pop(arrival.actor, None)
        _log.warning("chunk %d of actor %s is left out: %s", arrival.seq, arrival.actor, error)
        if self.rejected["in_a_row"] >= MAX_REJECTED:
            raise FloatingPointError(
                f"the last {MAX_REJECTED} chunks of transitions were unusable, the last one of actor "
                f"{arrival.actor}: {error}; look at its environment"
            )

    def _rollout(self, arrival: Arrival, parts: dict[str, Any]) -> Rollout:
        incarnation, running = self._running.get(arrival.actor, ("", RunningEpisodes(self._num_envs)))
        if incarnation != arrival.incarnation:
            running = RunningEpisodes(self._num_envs)
        self._running[arrival.actor] = arrival.incarnation, running
        episodes = running.finish(
            parts["reward"], parts["valid"], parts["final_index"],
            action_norms(parts["action"], self._spec), parts["metrics"],
        )  # fmt: skip
        return {
            **_tensors(parts),
            "extras": {},
            "carry": {},
            "new_steps": parts["terminated"].size,
            "num_envs": self._num_envs,
            "collector": {},
            "episodes": episodes,
            "policy_version": int(arrival.frame.header["version"]),
            "collect_s": 0.0,
            "env_s": 0.0,
        }  # type: ignore[typeddict-item]  # the arrays are named in read_chunk

    def _warn_of_no_actor(self) -> None:
        now = time.monotonic()
        if self.server.live() or now - self._told < 30.0:
            return
        if self._told == 0.0:
            self._told = now - 27.0  # the first time after three seconds
            return
        self._told = now
        _log.info(
            "no actor is connected: start lit-rl act --config NAME --connect HOST:%d; training waits",
            self.server.port,
        )

    def report(self, policy_version: int, versions: list[int], updates: int, needed: int) -> dict[str, float]:
        """Return what there is to say of actors and of the ratio of updates to env steps.

        Args:
            policy_version: Version of the learner.
            versions: Versions by which the newest chunks were played.
            updates: Minibatches that were drawn so far.
            needed: Env steps before the first of them.
        """
        counts = self.server.counts
        lags = [policy_version - version for version in versions] or [0]
        learned_from = self.inserted_steps - needed
        return {
            metrics.LEARNER_UTD: updates / learned_from if learned_from > 0 else 0.0,
            metrics.LEARNER_LAG: float(np.mean(lags)),
            metrics.LEARNER_LAG_MAX: float(max(lags)),
            metrics.LEARNER_ACTORS: float(len(self.server.live())),
            metrics.LEARNER_LOST: float(counts["lost_actors"]),
            metrics.LEARNER_REJECTED: float(counts["rejected_frames"] + self.rejected["chunks"]),
            metrics.LEARNER_DUPLICATES: float(counts["duplicate_chunks"]),
            metrics.LEARNER_MISSING: float(self.missing_steps),
        }

    def get_state(self) -> dict[str, Any]:
        """Return what was taken of which actor, as plain types; chunks that wait are not part of it."""
        known = {
            incarnation: asdict(of) | {"received": of.inserted}
            for incarnation, of in self.server.known.items()
        }
        return {
            "run": self.server.run,
            "known": known,
            "num_joined": self.server.num_joined,
            "inserted_steps": self.inserted_steps,
            "random_steps": self.random_steps,
            "missing_steps": self.missing_steps,
            "last": self._last,
            "running": {
                actor: [incarnation, episodes.get_state()]
                for actor, (incarnation, episodes) in self._running.items()
            },
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`get_state`; the server has what it needs of it from :func:`known_actors`."""
        self.inserted_steps, self.random_steps = state["inserted_steps"], state["random_steps"]
        self.missing_steps = state["missing_steps"]
        self._last = state["last"]
        for actor, (incarnation, sums) in state["running"].items():
            episodes = RunningEpisodes(self._num_envs)
            episodes.set_state(sums)
            self._running[actor] = incarnation, episodes


def known_actors(state: dict[str, Any] | None) -> dict[str, Known]:
    """Return what the state of a :class:`Receiver` knows of actors, by their incarnations."""
    return {} if state is None else {name: Known(**of) for name, of in state["known"].items()}


def _tensors(parts: dict[str, Any]) -> dict[str, Any]:
    return map_nested(lambda leaf: torch.from_numpy(leaf) if isinstance(leaf, np.ndarray) else leaf, parts)


def through_the_wire(rollout: Rollout, spec: EnvSpec) -> Rollout:
    """Send the arrays of a rollout through the encoding of the wire, and return what arrives.

    Args:
        rollout: Rollout of a collector of this process.
        spec: Observation and action of the environment.
    """
    numbers = map_nested(
        lambda leaf: leaf.cpu().numpy(), {"obs": rollout["obs"], "metrics": rollout["metrics"]}
    )
    arrays = {**flatten("obs", numbers["obs"]), **{f"metrics/{k}": v for k, v in numbers["metrics"].items()}}
    for name in ("reset", "action", "reward", "terminated", "truncated", "valid", "final_index"):
        if (tensor := rollout[name]) is not None:
            arrays[name] = tensor.cpu().numpy()
    if len(rollout["final_index"]):
        arrays |= flatten("final_obs", map_nested(lambda leaf: leaf.cpu().numpy(), rollout["final_obs"]))
    header = {
        "seq": 1, "version": rollout["policy_version"], "num_envs": rollout["num_envs"], "at_random": False,
    }  # fmt: skip
    reader = FrameReader()
    frames = [frame for m in messages([Frame("chunk", header, arrays).encode()]) for frame in reader.feed(m)]
    return {**rollout, **_tensors(read_chunk(frames[0], spec, rollout["num_envs"]))}  # type: ignore[typeddict-item]
