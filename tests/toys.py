"""Tiny environments whose returns can be computed by hand, and a quiet Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger
from torch import Tensor
from torch.optim import Optimizer

from lit_rl import PPO
from lit_rl.algos.ppo.policy import ProximalPolicy, Values
from lit_rl.algos.ppo.samples import Samples
from lit_rl.ranks import Ranks
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec, Rollout, Step


class Episodes57(gymnasium.Env):
    """Episodes of 5 truncated and 7 terminated steps in turn; nothing depends on the action.

    obs = [episode / 8, t / 8, 1], reward = t + 10 * episode. Episodes are counted from ``seed % 3``.
    """

    observation_space = spaces.Box(-100, 100, (3,), np.float32)
    action_space: spaces.Space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.episode, self.t = -1, 0

    def _obs(self) -> np.ndarray:
        return np.array([self.episode / 8, self.t / 8, 1], np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.episode = self.episode + 1 if seed is None else seed % 3
        self.t = 0
        return self._obs(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        reward = float(self.t + 10 * self.episode)
        self.t += 1
        is_odd = bool(self.episode % 2)
        return (
            self._obs(),
            reward,
            is_odd and self.t == 7,
            not is_odd and self.t == 5,
            {"height": float(self.t)},
        )


class ContinuousEpisodes57(Episodes57):
    """The same with two bounded continuous actions of different scales."""

    action_space = spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32))


class Bandit(gymnasium.Env):
    """One-step episodes of constant observation and reward."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return np.ones(2, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        return np.ones(2, np.float32), 1.0, True, False, {}


class Broken(Episodes57):
    """Returns ``value`` as the reward, or in the observation, of step ``at``."""

    def __init__(self, at: int, value: float, where: str = "reward") -> None:
        super().__init__()
        self.at, self.value, self.where, self.calls = at, value, where, 0

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        obs, reward, terminated, truncated, info = super().step(action)
        if self.calls == self.at:
            if self.where == "reward":
                reward = self.value
            else:
                obs[1] = self.value
        self.calls += 1
        return obs, reward, terminated, truncated, info


class Mixed(gymnasium.Env):
    """Dict observations of every kind of leaf, and actions of the kind asked for. Episodes of 6 steps.

    The reward is 1 where a discrete action equals the discrete observation ``goal``, else 0.
    """

    def __init__(self, action: str = "discrete", mask: bool = False) -> None:
        self.action_space = {
            "discrete": spaces.Discrete(4),
            "multi": spaces.MultiDiscrete([4, 2]),
            "box": spaces.Box(-1, 1, (2, 3), np.float32),
        }[action]
        inner = spaces.Dict(
            {"pair": spaces.MultiDiscrete([3, 2]), "grid": spaces.Box(0, 255, (2, 2), np.uint8)}
        )
        leaves: dict[str, spaces.Space] = {
            "goal": spaces.Discrete(4),
            "inner": inner,
            "real": spaces.Box(-9, 9, (3,), np.float32),
        }
        self._choices = {"discrete": 4, "multi": 6}.get(action, 0)
        self._mask = mask
        if mask:
            leaves["action_mask"] = spaces.Box(0, 1, (self._choices,), np.int8)
        self.observation_space = spaces.Dict(leaves)
        self.t = 0

    def _obs(self) -> dict[str, Any]:
        obs: dict[str, Any] = {
            "goal": np.int64(self.np_random.integers(4)),
            "inner": {
                "pair": self.np_random.integers([3, 2]),
                "grid": self.np_random.integers(0, 256, (2, 2), np.uint8),
            },
            "real": self.np_random.uniform(-3, 3, 3).astype(np.float32),
        }
        if self._mask:
            mask = self.np_random.integers(0, 2, self._choices).astype(np.int8)
            mask[obs["goal"]] = 1
            mask[4:] = [1, 0][: len(mask[4:])]  # of the second entry of a multi-discrete action only 0
            obs["action_mask"] = mask
        self._goal = int(obs["goal"])
        return obs

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict[str, Any], dict]:
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict]:
        chosen = np.asarray(action).ravel()[0]
        reward = float(chosen == self._goal)
        self.t += 1
        return self._obs(), reward, False, self.t == 6, {}


class Memory(gymnasium.Env):
    """A cue of -1 or 1 at step 0, zeros after it; the last of four actions must repeat it (reward 1)."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.cue, self.t = int(self.np_random.integers(2)), 0
        return np.array([2 * self.cue - 1, 0], np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.t += 1
        is_last = self.t == 4
        obs = np.array([0, self.t == 3], np.float32)
        return obs, float(is_last and int(action) == self.cue), is_last, False, {}


class MatchingPair:
    """A native environment of two agents, each rewarded for naming the other's bit.

    Each observes [its bit, the other's, which agent it is]. Episodes are truncated after ``length`` steps.

    Args:
        num_envs: N.
        team: One reward for both (their mean) instead of one each.
        length: Steps per episode; environment n starts n steps into its first one.
    """

    def __init__(self, num_envs: int, team: bool = False, length: int = 4) -> None:
        self.num_envs, self.team, self.length = num_envs, team, length
        agents = ["left", "right"]
        self.spec = EnvSpec("MatchingPair", LeafSpec([3]), ActionSpec("discrete", categories=[2]), agents)

    def reset(self, seed: int) -> np.ndarray:
        self.rng = np.random.default_rng(seed)
        self.t = np.arange(self.num_envs) % self.length
        return self._draw()

    def _draw(self) -> np.ndarray:
        self.bits = self.rng.integers(0, 2, (self.num_envs, 2))
        return self._obs()

    def _obs(self) -> np.ndarray:
        which = np.broadcast_to([0, 1], self.bits.shape)
        return np.stack([self.bits, self.bits[:, ::-1], which], -1).astype(np.float32)  # (N, A, 3)

    def step(self, action: np.ndarray) -> Step:
        assert action.shape == (self.num_envs, 2)
        reward = (action == self.bits[:, ::-1]).astype(np.float32)  # (N, A)
        self.t += 1
        truncated = self.t == self.length
        obs = self._draw()
        final_obs = obs[truncated].copy() if truncated.any() else None
        self.t[truncated] = 0
        reward = reward.mean(-1) if self.team else reward
        return Step(obs, reward, np.zeros_like(truncated), truncated, final_obs, None, {})

    def get_state(self) -> dict[str, Any] | None:
        return None

    def set_state(self, state: dict[str, Any]) -> None:
        raise AssertionError("it has no state")

    def close(self) -> None:
        pass


class MemoryLogger(Logger):
    """Keeps what is logged: ``rows`` of (step, values)."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    @property
    def name(self) -> str:
        return "memory"

    @property
    def version(self) -> str:
        return "0"

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def column(self, name: str) -> list[float]:
        return [values[name] for _, values in self.rows if name in values]


class Begun(Callback):
    """Touches a file when a batch begins to be trained, so that another process can wait for it."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.path.touch()


def make_trainer(**kwargs: Any) -> Trainer:
    """A Trainer of one CPU process that prints and writes nothing."""
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "log_every_n_steps": 1,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "limit_val_batches": 0,
    }
    return Trainer(**(defaults | kwargs))


def fit(module: LightningModule, data: LightningDataModule, **kwargs: Any) -> MemoryLogger:
    """Train, and return what was logged."""
    logger = MemoryLogger()
    make_trainer(logger=logger, **kwargs).fit(module, datamodule=data)
    return logger


def parameters_of(module: torch.nn.Module) -> torch.Tensor:
    """A copy of all parameters as one vector."""
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


class WatchedPPO(PPO):
    """Notes lag, log-ratios of every gradient step and how far each ``training_step`` moved the weights."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lags: list[int] = []
        self.log_ratios: list[Tensor] = []
        self.moved: list[float] = []

    def training_step(self, rollout: Rollout, batch_idx: int) -> None:
        self.lags.append(self.policy_version - rollout["policy_version"])
        before = parameters_of(self)
        super().training_step(rollout, batch_idx)
        self.moved.append((parameters_of(self) - before).norm().item())

    def configure_optimizers(self) -> Optimizer:
        optimizer: Any = super().configure_optimizers()
        minimize = optimizer.minimize_fn

        def watched(*args: Any) -> Any:
            step = minimize(*args)
            self.log_ratios.append(step.log_ratio)
            return step

        optimizer.minimize_fn = watched
        return optimizer


def samples_of(learner: PPO | ProximalPolicy, rollout: Rollout) -> tuple[Samples, Values]:
    """What a learner of one rank trains on, and logs of it."""
    policy = learner.policy if isinstance(learner, PPO) else learner
    return policy.samples(rollout, policy.replay(rollout), Ranks())
