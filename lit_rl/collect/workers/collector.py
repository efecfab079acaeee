"""Collection in worker processes, which act and step; whole rollouts come back through shared memory.

Axes: T steps, N environments, K finished episodes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_rl import metrics
from lit_rl.collect.inline import SHARES
from lit_rl.collect.random_state import get_rng_state, set_rng_state
from lit_rl.collect.storage import check_rollout
from lit_rl.collect.workers.buffer import TIME_FIELDS, Shared, SharedExperienceBuffer
from lit_rl.collect.workers.policy import PolicyPublisher, Published
from lit_rl.collect.workers.process import Order, Task
from lit_rl.collect.workers.supervisor import Supervisor
from lit_rl.collect.workers.transport import LocalProcesses, Transport
from lit_rl.envs.workers.vector import STEP_TIMEOUT_S, is_per_copy, pickle_factory
from lit_rl.nested import map_nested
from lit_rl.types import EnvSpec, Policy, Rollout, VectorEnv


class WorkersCollector:
    """Plays a policy in N environments of W processes, which act by themselves (a ``Collector``).

    One worker gives what :class:`~lit_rl.collect.inline.InlineCollector` gives, bit for bit: it draws from
    the trainer's random generators, which are lent to it. Several draw from a stream each, so that runs with
    equal seeds and equal ``num_workers`` are equal, and runs with another number of workers are not.

    With ``max_policy_lag`` the next rollouts are collected while the learner trains. What they hold then
    depends on which process was faster, and no run repeats another.

    Args:
        make: Makes the ``VectorEnv`` of one worker, given its number of environments; it is pickled.
        num_envs: Number N of environments.
        seed: Environment i starts with ``seed + i``.
        num_workers: Number W of processes; None takes one per core that this process may use, or as the
            transport says, at most N.
        step_timeout_s: Longest time in seconds that a step of all environments of a worker may take; then
            they are taken to hang. None takes 600, infinity waits for ever.
        max_policy_lag: Rollouts that are collected ahead, each with a policy older by one update; 0 collects
            strictly by the present policy.
        update_interval: With ``max_policy_lag``, env steps of a worker after which it takes newer weights
            within a rollout; None keeps the weights for a rollout.
        device: Device of the policy in this process; the workers act on the CPU.
        transport: Transport that starts the workers, closed with the collector; None takes processes here.

    Raises:
        ValueError: ``num_workers`` is not between 1 and N, or ``step_timeout_s`` is not positive.
        TypeError: ``make`` cannot be pickled.
    """

    def __init__(
        self,
        make: Callable[[int], VectorEnv],
        num_envs: int,
        seed: int,
        num_workers: int | None = None,
        step_timeout_s: float | None = None,
        max_policy_lag: int = 0,
        update_interval: int | None = None,
        device: torch.device | str = "cpu",
        transport: Transport | None = None,
    ) -> None:
        transport = LocalProcesses() if transport is None else transport
        count = min(transport.default_workers(), num_envs) if num_workers is None else num_workers
        if not 1 <= count <= num_envs:
            raise ValueError(f"num_workers must be between 1 and num_envs={num_envs}, got {num_workers}")
        timeout_s = STEP_TIMEOUT_S if step_timeout_s is None else step_timeout_s
        if not timeout_s > 0:
            raise ValueError(f"step_timeout_s must be positive, got {step_timeout_s}")
        factory = pickle_factory(make, transport.by_name)
        ends = [num_envs * (w + 1) // count for w in range(count)]
        self._rows = [slice(start, stop) for start, stop in zip([0, *ends], ends, strict=False)]
        self.num_envs, self.device = num_envs, torch.device(device)
        self.max_policy_lag, self._look_every = max_policy_lag, 0
        if max_policy_lag and update_interval is not None:
            largest = max(rows.stop - rows.start for rows in self._rows)
            self._look_every = max(1, update_interval // largest)  # steps of all environments of a worker
        self._buffer = SharedExperienceBuffer(num_envs, count, max_policy_lag + 1)
        self._publisher = PolicyPublisher(transport.by_name)
        self._shares_memory = transport.shares_memory
        self.workers = Supervisor(
            factory, self._rows, seed, self._buffer, self._publisher, timeout_s, transport
        )
        if self.workers.spec is None:
            raise RuntimeError("no worker said what its environments are")
        self.spec: EnvSpec = self.workers.spec
        self._taken = 0  # the policy object that the workers have
        self._ordered = 0
        self._outstanding: deque[int] = deque()  # slots of rollouts that are asked for, oldest first
        self._ready: deque[Rollout] = deque()  # collected ahead, and fetched to save a state
        self._collected_at: float | None = None

    # Collection

    def collect(self, policy: Policy, num_steps: int, policy_version: int) -> Rollout:
        """Play ``num_steps`` steps in every environment, continuing where the last call stopped.

        Raises:
            FloatingPointError: An observation or a reward is not finite; the message names step and
                environment.
            ValueError: An action mask allowed nothing; the message names step, environment and agent.
            TypeError: The policy cannot be pickled, so that processes cannot act by it.
            RuntimeError: A worker was lost too often in a row, hangs, or its environment failed.
            MemoryError: There is no memory for the rollouts.
        """
        start = time.perf_counter()
        published, changed = self._publish(policy, policy_version)
        lends = len(self._rows) == 1 and not self.max_policy_lag
        ahead = self.max_policy_lag + 1 - len(self._ready)
        while len(self._outstanding) < ahead:
            slot = self._ordered % self._buffer.num_slots
            order = Order(
                slot, num_steps, policy_version, published, changed, _autocast(),
                torch.get_default_dtype(), get_rng_state() if lends else None, self._look_every,
            )  # fmt: skip
            self.workers.send_each("fill", [(order,)] * len(self._rows))
            self._outstanding.append(slot)
            self._ordered += 1
        before_wait = time.perf_counter()
        rollout = self._ready.popleft() if self._ready else self._fetch()
        check_rollout(self.spec, rollout)
        now = time.perf_counter()
        rollout["collect_s"] = now - start
        rollout["collector"] = self._report(rollout, policy_version, now, now - before_wait)
        return rollout

    def _publish(self, policy: Policy, version: int) -> tuple[Published, dict[int, dict[str, Any]]]:
        """Let the workers know a policy; returns what identifies its weights, and its attributes' changes."""
        if self._outstanding and not self._publisher.knows(policy):
            self._fetch_all(is_kept=False)  # collected for another policy
        published, changed = self._publisher.publish(policy, version)
        if self._publisher.number != self._taken:
            self.workers.ask("take_policy", *self._publisher.message())
            self._taken = self._publisher.number
        return published, changed

    def with_policy(
        self,
        policy: Policy,
        policy_version: int,
        function: Callable[..., Any],
        arguments: list[tuple[Any, ...]],
    ) -> list[Any]:
        """Let each worker call ``function(policy, *arguments)`` apart from its environments.

        Args:
            policy: The policy.
            policy_version: Its number.
            function: Function that workers import by its name. It must leave the random generators as they
                were, and is called again where a worker is lost.
            arguments: Arguments for each of the :attr:`num_workers` workers.

        Returns:
            What it returns in each worker.
        """
        self._fetch_all(is_kept=True)
        published, changed = self._publish(policy, policy_version)
        precision = _autocast(), torch.get_default_dtype()
        return self.workers.ask_each(
            "with_policy", [(Task(function, own, published, changed, *precision),) for own in arguments]
        )

    @property
    def num_workers(self) -> int:
        """Number W of workers."""
        return len(self._rows)

    def _report(self, rollout: Rollout, version: int, now: float, wait_s: float) -> dict[str, float]:
        """Return what is logged of this collector."""
        told = {
            metrics.COLLECTOR_WAIT: wait_s,
            metrics.COLLECTOR_RESTARTS: float(self.workers.num_lost),
            metrics.COLLECTOR_RECLAIMED: float(self.workers.num_reclaimed),
            metrics.COLLECTOR_BUFFER: self._buffer.size / 2**20,
            metrics.COLLECTOR_LAG: float(version - rollout["policy_version"]),
        }
        if self._collected_at is not None:
            seconds = max(now - self._collected_at, 1e-9)
            told[metrics.COLLECTOR_EXPERIENCE] = rollout["new_steps"] / seconds
            told[metrics.COLLECTOR_UPDATES] = 60 / seconds
        self._collected_at = now
        return told

    def _fetch(self) -> Rollout:
        """Wait for the oldest rollout that was asked for, and copy it out of its slot."""
        parts = self.workers.receive_all()
        slot = self._outstanding.popleft()
        self._buffer.begin_reading(slot)
        rollout = self._join(slot, parts)
        self._buffer.free(slot)
        if parts[0]["generators"] is not None:
            set_rng_state(parts[0]["generators"])
        is_small = self._buffer.num_steps < len(rollout["reward"])
        if is_small and not self._outstanding and self._shares_memory:
            self.workers.ask("lay_out", self._buffer.lay_out(rollout))
        return rollout

    def _fetch_all(self, is_kept: bool) -> None:
        """Wait for all that was asked for, so that the workers do nothing; keep it for later, or not."""
        while self._outstanding:
            rollout = self._fetch()
            if is_kept:
                self._ready.append(rollout)
        if not is_kept:
            self._ready.clear()

    def _join(self, slot: int, parts: list[dict[str, Any]]) -> Rollout:
        """Join the parts of all workers into one rollout of all environments."""

        def along_envs(*found: Any) -> Tensor:
            if all(isinstance(leaf, Shared) and leaf == found[0] for leaf in found):
                return torch.from_numpy(self._buffer.read(slot, found[0]))
            read = [
                self._buffer.read(slot, leaf, rows) if isinstance(leaf, Shared) else leaf
                for leaf, rows in zip(found, self._rows, strict=True)
            ]
            return torch.cat([torch.as_tensor(leaf) for leaf in read], 1)

        joined: Any = {
            key: map_nested(along_envs, parts[0][key], *(part[key] for part in parts[1:]))
            for key in TIME_FIELDS
        }
        index, order = self._join_ends([part["final_index"] for part in parts])
        first = lambda *found: torch.cat([torch.as_tensor(leaf) for leaf in found])  # noqa: E731
        over = lambda key: map_nested(first, parts[0][key], *(part[key] for part in parts[1:]))  # noqa: E731
        episodes = over("episodes")
        episodes["env_index"] = index % self.num_envs
        shape = joined["terminated"].shape
        valid = None
        if any(part["valid"] is not None for part in parts):
            sizes = [(shape[0], rows.stop - rows.start) for rows in self._rows]
            found = [
                torch.ones(size, dtype=torch.bool)
                if part["valid"] is None
                else torch.as_tensor(part["valid"])
                for part, size in zip(parts, sizes, strict=True)
            ]
            valid = torch.cat(found, 1)
        in_order = lambda leaf: leaf[order]  # noqa: E731
        return joined | {
            "valid": valid,
            "final_index": index[order],
            "final_obs": map_nested(in_order, over("final_obs")),
            "carry": over("carry"),
            "new_steps": shape.numel(),
            "num_envs": self.num_envs,
            "episodes": map_nested(
                in_order, episodes | {"end_step": (index // self.num_envs + 1) * self.num_envs}
            ),
            "policy_version": min(part["policy_version"] for part in parts),
            "collect_s": 0.0,
            "env_s": sum(part["env_s"] for part in parts) / len(parts),
            "collector": {},
        }

    def _join_ends(self, indices: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        """Return where episodes end (K,), counted over all environments, and the order of their ends."""
        moved = []
        for index, rows in zip(indices, self._rows, strict=True):
            t, n = np.divmod(index, rows.stop - rows.start)
            moved.append(t * self.num_envs + n + rows.start)
        joined = torch.from_numpy(np.concatenate(moved))
        return joined, torch.argsort(joined)

    # Episodes

    def restart_with(self, method: str, rows: Any) -> None:
        """Begin new episodes by ``env.method(rows)``, which returns observations; running ones are left.

        Args:
            method: Name of a method of the environments.
            rows: What it is given for all environments; ``rows.take(slice)`` are those of a worker.
        """
        self._fetch_all(is_kept=False)
        self.workers.before_orders = [("restart_with", lambda _: method, rows.take)]
        self.workers.ask_each("restart_with", [(method, rows.take(share)) for share in self._rows])

    @property
    def unknown_class(self) -> str | None:
        """Name of what keeps the state of the environments from being saved, where that is known."""
        return self.workers.ask("unknown_class")[0]

    # State

    def get_state(self) -> dict[str, Any]:
        """Return environments (None when they cannot say), observation, carry and running episodes.

        Rollouts that were collected ahead are no part of it: a resumed run goes on after them.
        """
        if not self.workers.is_alive:
            return self._lost_state()
        self._fetch_all(is_kept=True)
        states = self.workers.ask("get_state")
        if not any(state["started"] for state in states):
            return {"started": False}
        if not all(state["started"] for state in states):
            return self._lost_state()  # a worker took the place of a lost one, and has not begun
        join = lambda *found: torch.cat(found)  # noqa: E731
        over = lambda key: map_nested(join, *(state[key] for state in states))  # noqa: E731
        names = {name for state in states for name in state["running"]}
        return {
            "started": True,
            "env": _join_env_states([state["env"] for state in states]),
            "restarts": max(self.workers.restarts, *(state["restarts"] for state in states)),
            "obs": over("obs"),
            "carry": over("carry"),
            "reset": over("reset"),
            "running": {
                name: torch.cat(
                    [
                        state["running"].get(name, torch.zeros(len(state["reset"]), dtype=torch.float64))
                        for state in states
                    ]
                )
                for name in sorted(names)
            },
            "streams": [state["stream"] for state in states] if len(states) > 1 else [],
        }

    def _lost_state(self) -> dict[str, Any]:
        """Return a state from which all episodes start anew."""
        reset = torch.ones(self.num_envs, dtype=torch.bool)
        return {"started": True, "env": None, "restarts": self.workers.restarts, "reset": reset}

    def set_state(self, state: dict[str, Any]) -> bool:
        """Continue from a state that :meth:`get_state`, or that of a collector in one process, returned.

        It returns False when the environments could not save theirs, or were divided otherwise, or when
        their number or that of the workers is another one: all episodes start anew.
        """
        self._fetch_all(is_kept=False)
        if not state["started"]:
            return True
        count, env = len(self._rows), state["env"]
        self.workers.restarts = max(self.workers.restarts, state["restarts"])
        fits = env is not None and len(state["reset"]) == self.num_envs
        shares = _split_env_state(env, self._rows) if fits and env is not None else None
        streams = state.get("streams", [])
        if shares is None or len(streams) != (count if count > 1 else 0):
            self.workers.restarts += 1
            self.workers.ask("start_anew", self.workers.restarts)
            return False
        states = []
        for worker, rows in enumerate(self._rows):
            cut = lambda leaf, rows=rows: leaf[rows].clone()  # noqa: E731
            own = {key: map_nested(cut, state[key]) for key in ("obs", "carry", "reset", "running")}
            stream = streams[worker] if streams else None
            own |= {"started": True, "env": shares[worker], "restarts": state["restarts"], "stream": stream}
            states.append((own,))
        return all(self.workers.ask_each("continue_from", states))

    def close(self) -> None:
        """End the processes and give their memory back."""
        self._outstanding.clear()
        self._ready.clear()
        self.workers.end()
        self._buffer.release()
        self._publisher.release()


def _autocast() -> torch.dtype | None:
    """Return the dtype of automatic mixed precision where it is on, on whatever device the learner is."""
    for device in ("cuda", "cpu"):
        if torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device)
    return None


def _join_env_states(states: list[Any]) -> dict[str, Any] | None:
    """Return the state of all environments as one process would where that is possible."""
    if any(state is None for state in states):
        return None
    if len(states) == 1:
        return states[0]
    if all(is_per_copy(state) for state in states):
        return {"envs": [env for state in states for env in state["envs"]]}
    return {SHARES: states}


def _split_env_state(state: dict[str, Any], rows: list[slice]) -> list[Any] | None:
    """Return the state of each worker's environments; None where they were divided otherwise."""
    if SHARES in state:
        shares = state[SHARES]
        return shares if len(shares) == len(rows) else None
    if len(rows) == 1:
        return [state]
    return [{"envs": state["envs"][share]} for share in rows] if is_per_copy(state) else None
