"""A batch of robots with joints that each have a target: observations of parts, padded, with a mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lit_rl.types import ActionSpec, EnvSpec, LeafSpec, Step

FEATURES = 6


class Joints:
    """N robots with 2 to J joints in a chain, which are drawn anew for each episode.

    An action turns each joint by a tenth of it. A joint should stand where its own target and the turn of the
    joint before it say, and the reward is minus the mean error of the joints that exist. Tokens are turn,
    target, the turn of the joint before, gear, depth and the share of joints; the context is the mean target
    and the time.

    Args:
        num_envs: Number N of robots.
        max_joints: Number J of joints for which arrays are padded.
        sizes: Numbers of joints to draw from.
        steps: Steps of an episode.
        with_links: Whether observations hold the links of the chain.
        padding: What stands in tokens of joints that do not exist.
        numbers: Robot n shows the number ``n % numbers`` at ``body_number``; 0 shows none.
    """

    def __init__(
        self,
        num_envs: int,
        max_joints: int = 4,
        sizes: Sequence[int] = (2, 3, 4),
        steps: int = 10,
        with_links: bool = False,
        padding: float = 0.0,
        numbers: int = 0,
    ) -> None:
        self.num_envs, self.max_joints, self.sizes, self.steps = num_envs, max_joints, tuple(sizes), steps
        self.with_links, self.padding, self.numbers = with_links, padding, numbers
        self.spec = joint_spec(max_joints, with_links, numbers)
        self._streams = [np.random.default_rng(n) for n in range(num_envs)]
        shape = (num_envs, max_joints)
        self.turn, self.target, self.gear = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.size, self.time = np.zeros(num_envs, np.int64), np.zeros(num_envs, np.int64)

    def _begin(self, n: int) -> None:
        stream, joints = self._streams[n], self.max_joints
        self.size[n] = self.sizes[stream.integers(len(self.sizes))]
        self.turn[n], self.target[n] = stream.normal(0, 0.5, joints), stream.normal(0, 0.5, joints)
        self.gear[n] = stream.uniform(0.5, 1.5, joints)
        self.time[n] = 0

    def _exists(self) -> np.ndarray:
        return np.arange(self.max_joints) < self.size[:, None]

    def _before(self) -> np.ndarray:
        return np.pad(self.turn, ((0, 0), (1, 0)))[:, :-1]

    def _obs(self) -> dict[str, np.ndarray]:
        exists = self._exists()
        depth = np.arange(self.max_joints) / np.maximum(self.size[:, None] - 1, 1)
        share = np.broadcast_to(self.size[:, None] / self.max_joints, exists.shape)
        token = np.stack([self.turn, self.target, self._before(), self.gear, depth, share], -1)
        mean = (self.target * exists).sum(1) / self.size
        obs = {
            "joint_tokens": np.where(exists[..., None], token, self.padding).astype(np.float32),
            "joint_mask": exists.astype(np.int64),
            "global_token": np.stack([mean, self.time / self.steps], -1).astype(np.float32),
        }
        if self.with_links:
            links = np.eye(self.max_joints, k=1)[None] * exists[:, None] * exists[..., None]
            obs["joint_links"] = links.astype(np.int64)
        if self.numbers:
            obs["body_number"] = np.arange(self.num_envs) % self.numbers
        return obs

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        self._streams = [np.random.default_rng(seed + n) for n in range(self.num_envs)]
        for n in range(self.num_envs):
            self._begin(n)
        return self._obs()

    def step(self, action: np.ndarray) -> Step:
        exists = self._exists()
        self.turn = self.turn + 0.1 * np.clip(action, -1, 1) * self.gear
        self.time += 1
        error = np.abs(self.target - self.turn + 0.5 * self._before()) * exists
        reward = (-error.sum(1) / self.size).astype(np.float32)
        truncated = self.time >= self.steps
        final_obs = None
        if truncated.any():
            final_obs = {key: value[truncated].copy() for key, value in self._obs().items()}
            for n in np.flatnonzero(truncated):
                self._begin(n)
        return Step(self._obs(), reward, np.zeros(self.num_envs, bool), truncated, final_obs, None, {})

    def get_state(self) -> dict[str, Any]:
        arrays = {name: torch.from_numpy(getattr(self, name).copy()) for name in _ARRAYS}
        return {"arrays": arrays, "streams": [_plain(stream) for stream in self._streams]}

    def set_state(self, state: dict[str, Any]) -> None:
        for name in _ARRAYS:
            setattr(self, name, state["arrays"][name].numpy().copy())
        for stream, saved in zip(self._streams, state["streams"], strict=True):
            stream.bit_generator.state = {
                "bit_generator": "PCG64",
                "state": {"state": int(saved["state"]), "inc": int(saved["inc"])},
                "has_uint32": saved["has_uint32"],
                "uinteger": saved["uinteger"],
            }

    def close(self) -> None:
        pass


_ARRAYS = ("turn", "target", "gear", "size", "time")


def _plain(stream: np.random.Generator) -> dict[str, Any]:
    state = stream.bit_generator.state
    numbers = {key: str(value) for key, value in state["state"].items()}  # they have 128 bits
    return numbers | {"has_uint32": state["has_uint32"], "uinteger": state["uinteger"]}


def joint_spec(max_joints: int, with_links: bool = False, numbers: int = 0) -> EnvSpec:
    """What ``Joints`` shows."""
    observation = {
        "joint_tokens": LeafSpec([max_joints, FEATURES]),
        "joint_mask": LeafSpec([max_joints], "int64", [2] * max_joints),
        "global_token": LeafSpec([2]),
    }
    if with_links:
        observation["joint_links"] = LeafSpec([max_joints, max_joints], "int64", [2] * max_joints**2)
    if numbers:
        observation["body_number"] = LeafSpec([], "int64", [numbers])
    bounds = [1.0] * max_joints
    action = ActionSpec("box", [max_joints], low=[-bound for bound in bounds], high=bounds)
    return EnvSpec("Joints", observation, action)


def robots(batch: int, max_joints: int, sizes: Sequence[int], with_links: bool = False, seed: int = 0) -> Any:
    """Observations of so many robots, whose sizes take turns; tensors (B, ...)."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([sizes[b % len(sizes)] for b in range(batch)])
    exists = torch.arange(max_joints) < size[:, None]
    token = torch.randn(batch, max_joints, FEATURES, generator=generator)
    obs = {
        "joint_tokens": token * exists[..., None],
        "joint_mask": exists.long(),
        "global_token": torch.randn(batch, 2, generator=generator),
    }
    if with_links:
        obs["joint_links"] = torch.ones(max_joints - 1).diag(1).expand(batch, -1, -1).long()
    return obs
