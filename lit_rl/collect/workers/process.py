"""A worker of ``WorkersCollector``: a process that acts and steps its share of the environments.

Its life is that of ``lit_rl/envs/workers/process.py``; in addition it has the policy, and a collector that
writes rollouts into a slot of the shared buffer.
"""

from __future__ import annotations

import os

if __name__ == "__main__":  # the trainer imports this file, too
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch is imported: the accelerators are the trainer's

import random
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lit_rl.collect.inline import InlineCollector
from lit_rl.collect.random_state import get_rng_state, set_rng_state
from lit_rl.collect.workers.buffer import TIME_FIELDS, Control, Layout, SlotMemory, SlotState, map_layout
from lit_rl.collect.workers.policy import Layout as WeightsLayout
from lit_rl.collect.workers.policy import Published, ReceivedPolicy
from lit_rl.envs.workers.process import Share, serve
from lit_rl.nested import map_nested, map_with_path
from lit_rl.types import Decision, EnvSpec, Nested, NestedArray, Step, VectorEnv


class Seat(NamedTuple):
    """Says which worker a process is.

    Args:
        worker: Its number.
        num_workers: Number of all workers.
        num_slots: Number of slots of the buffer.
        start: First environment.
        stop: Environment after the last one.
        seed: Seed of environment 0.
        restarts: How often the environments were started anew, so that no episode is played twice.
    """

    worker: int
    num_workers: int
    num_slots: int
    start: int
    stop: int
    seed: int
    restarts: int


class Order(NamedTuple):
    """Asks for a rollout.

    Args:
        slot: Slot that takes it.
        num_steps: Number of steps.
        policy_version: Version of the policy that acts.
        published: Weights of this version.
        changed: Plain attributes of the policy that changed since the version before.
        autocast: Dtype of automatic mixed precision; None without.
        default_dtype: Dtype of new tensors.
        generators: State of the trainer's random generators, from which the worker draws; None lets it draw
            from its own.
        look_every: Steps after which the worker takes newer weights, if there are any; 0 keeps these.
    """

    slot: int
    num_steps: int
    policy_version: int
    published: Published
    changed: dict[int, dict[str, Any]]
    autocast: torch.dtype | None
    default_dtype: torch.dtype
    generators: dict[str, Any] | None
    look_every: int


class Task(NamedTuple):
    """Asks for what a function makes of the policy, apart from the environments of the worker.

    Args:
        function: Function of the policy and of ``arguments``; it leaves the random generators as they were.
        arguments: Its other arguments.
        published: Weights of the policy.
        changed: Plain attributes of the policy that changed since the version before.
        autocast: Dtype of automatic mixed precision; None without.
        default_dtype: Dtype of new tensors.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    published: Published
    changed: dict[int, dict[str, Any]]
    autocast: torch.dtype | None
    default_dtype: torch.dtype


class CollectingShare(Share):
    """Environments of one worker with a policy. The public methods are what the trainer asks for."""

    def __init__(self, memory: int, weights: int) -> None:
        super().__init__(memory)
        self._weights = weights
        self._slots: dict[tuple[str, ...], np.ndarray] = {}
        self.control: Any = None
        """Head of the memory, in which this worker shows that it lives; None before :meth:`begin`."""
        torch.set_num_threads(1)

    def begin(self, pickled: bytes, seat: Seat) -> EnvSpec:
        """Make the environments, and draw from random streams of this worker alone."""
        self._seat = seat
        self.control = Control(self._memory, seat.num_slots, seat.num_workers)
        entropy = [seat.seed % 2**64, seat.worker, seat.restarts]
        stream = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        torch.manual_seed(stream)
        np.random.seed(stream)  # noqa: NPY002  # environments of third parties draw from it
        random.seed(stream)
        spec = self.make(pickled, seat.stop - seat.start, seat.worker == 0 and not seat.restarts)
        beating = _Beating(self.env, self.control, seat.worker)
        self._collector = InlineCollector(beating, seat.seed + seat.start)
        self._collector.start_anew(seat.restarts)
        self.control.beat(seat.worker)
        return spec

    def lay_out(self, layout: Layout) -> None:
        """Map the slots."""
        self._slots = map_layout(self._memory, layout)

    def take_policy(self, pickled: bytes, layout: WeightsLayout) -> None:
        """Take the object of a policy, whose weights come with each order."""
        drawn = get_rng_state()  # modules that are imported now may draw
        self._policy = ReceivedPolicy(self._weights, pickled, layout)
        set_rng_state(drawn)

    def fill(self, order: Order) -> dict[str, Any]:
        """Play a rollout into a slot, and return it without what lies there."""
        seat, states = self._seat, self.control.state[order.slot]
        states[seat.worker] = SlotState.WRITING
        self.control.beat(seat.worker)
        self._policy.update(order.published, order.changed)
        if order.generators is not None:
            set_rng_state(order.generators)
        policy: Any = self._policy.policy
        if order.look_every:
            policy = _Refreshed(self._policy, order.look_every)
        version = self._policy.version if order.look_every else order.policy_version
        memory = SlotMemory(self._slots, order.slot, slice(seat.start, seat.stop))
        torch.set_default_dtype(order.default_dtype)
        with _precision(order.autocast):
            rollout: Any = self._collector.play(policy, order.num_steps, version, memory, is_checked=False)
        sent = {key: map_with_path(memory.replace, rollout[key], (key,)) for key in TIME_FIELDS}
        states[seat.worker] = SlotState.READY
        rest = {key: map_nested(_as_array, value) for key, value in rollout.items() if key not in TIME_FIELDS}
        drawn = get_rng_state() if order.generators is not None else None
        return sent | rest | {"generators": drawn}

    def with_policy(self, task: Task) -> Any:
        """Return what a function makes of the policy."""
        self.control.beat(self._seat.worker)
        self._policy.update(task.published, task.changed)
        torch.set_default_dtype(task.default_dtype)
        with torch.no_grad(), _precision(task.autocast):
            return task.function(self._policy.policy, *task.arguments)

    def get_state(self) -> dict[str, Any]:
        """Return the state of the collector and of the random generators."""
        return self._collector.get_state() | {"stream": get_rng_state()}

    def continue_from(self, state: dict[str, Any]) -> bool:
        """Continue from a state; False where the environments start anew."""
        if not self._collector.set_state(state):
            return False
        if state.get("stream") is not None:
            set_rng_state(state["stream"])
        return True

    def start_anew(self, restarts: int) -> None:
        """Begin new episodes with the next rollout."""
        self._collector.start_anew(restarts)

    def restart_with(self, method: str, rows: Any) -> None:
        """Begin new episodes by a method of the environments."""
        self._collector.restart_with(method, rows)

    def unknown_class(self) -> str | None:
        """Return the name of what keeps the state of the environments from being saved."""
        return getattr(self.env, "unknown_class", None) or type(self.env).__name__


class _Refreshed:
    """A policy that looks for newer weights after every few steps."""

    def __init__(self, received: ReceivedPolicy, look_every: int) -> None:
        self._received, self._look_every, self._steps = received, look_every, 0
        self.initial_carry = received.policy.initial_carry

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        self._steps += 1
        if self._steps % self._look_every == 0:
            self._received.refresh()
        return self._received.policy.act(obs, carry, reset, greedy=greedy)


class _Beating:
    """Environments that show after each step that they live."""

    def __init__(self, env: VectorEnv, control: Control, worker: int) -> None:
        self.num_envs, self.spec = env.num_envs, env.spec
        self._env, self._control, self._worker = env, control, worker
        self.get_state, self.set_state, self.close = env.get_state, env.set_state, env.close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def reset(self, seed: int) -> NestedArray:
        obs = self._env.reset(seed)
        self._control.beat(self._worker)
        return obs

    def step(self, action: np.ndarray) -> Step:
        step = self._env.step(action)
        self._control.beat(self._worker)
        return step


def _precision(dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    return nullcontext() if dtype is None else torch.autocast("cpu", dtype)


def _as_array(leaf: Any) -> Any:
    """Turn a tensor into an array, which is pickled faster; dtypes that numpy lacks stay tensors."""
    if not isinstance(leaf, Tensor) or leaf.dtype is torch.bfloat16:
        return leaf
    return leaf.detach().cpu().numpy()


if __name__ == "__main__":
    serve(CollectingShare)
