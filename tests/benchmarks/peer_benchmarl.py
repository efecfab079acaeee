"""Throughput of MAPPO in BenchMARL on simple_spread_v3, one thread, CPU: prints one line of JSON.

``peer_venv.py benchmarl`` makes the environment that it runs in; ``run_all.py`` calls it. Equal to ours
(``bench_mappo.py``) are the environment (the PettingZoo one of ``mpe2``, 3 agents, discrete actions, 25
steps), 32 copies of it in one process, rollouts of 800 env steps, 10 epochs in minibatches of 200 env steps
with the samples of all agents, a shared actor on the agent's observation, a critic on the global state, two
hidden layers of 64 with ReLU and layer normalisation, learning rate, gamma, lambda, clipping, entropy bonus.

BenchMARL neither clips nor normalises values, anneals nothing, and does not normalise the layer of inputs;
its Huber loss turns linear at 1, not at 10; actor and critic have an Adam each. Loggers, evaluation and
checkpoints are off. The clock starts after the first two iterations, as it does for ours.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import mpe2.simple_spread_v3
import torch
from benchmarl.algorithms import MappoConfig
from benchmarl.environments.pettingzoo.common import PettingZooClass
from benchmarl.experiment import Callback, Experiment, ExperimentConfig
from benchmarl.models.mlp import MlpConfig
from peers import MAPPO_SPREAD
from timing import Timing, report
from torchrl.envs import EnvBase, PettingZooWrapper

SKIP = 2
"""Iterations that do not count."""


class Spread(PettingZooClass):
    """BenchMARL's task, made from ``mpe2``: TorchRL looks for it in PettingZoo, which has moved it there."""

    def get_env_fun(
        self, num_envs: int, continuous_actions: bool, seed: int | None, device: Any
    ) -> Callable[[], EnvBase]:
        """What makes one of the copies."""
        return lambda: PettingZooWrapper(
            mpe2.simple_spread_v3.parallel_env(continuous_actions=continuous_actions, **self.config),
            return_state=True,
            categorical_actions=True,
            seed=seed,
            device=device,
        )


class Clock(Callback):
    """Reads the time after each update."""

    def __init__(self) -> None:
        super().__init__()
        self.readings: list[tuple[float, float]] = []

    def on_train_end(self, training_td: Any, group: str) -> None:
        """Note where we are."""
        self.readings.append((time.perf_counter(), time.process_time()))


def experiment(settings: dict[str, Any], iterations: int, seed: int, clock: Clock) -> Experiment:
    """MAPPO of BenchMARL with ``settings``."""
    config = ExperimentConfig.get_from_yaml()
    config.prefer_continuous_actions = False
    config.gamma, config.lr, config.adam_eps = settings["gamma"], settings["learning_rate"], 1e-5
    config.clip_grad_norm, config.clip_grad_val = True, settings["max_grad_norm"]
    config.max_n_frames, config.max_n_iters = None, iterations
    config.on_policy_collected_frames_per_batch = settings["num_envs"] * settings["n_steps"]
    config.on_policy_n_envs_per_worker = settings["num_envs"]
    config.on_policy_n_minibatch_iters = settings["n_epochs"]
    config.on_policy_minibatch_size = settings["batch_size"]
    config.evaluation, config.render = False, False
    config.loggers, config.create_json = [], False
    algorithm = MappoConfig.get_from_yaml()
    algorithm.clip_epsilon, algorithm.lmbda = settings["clip_range"], settings["gae_lambda"]
    algorithm.entropy_coef, algorithm.critic_coef = settings["entropy_coef"], settings["value_coef"]
    algorithm.loss_critic_type = "smooth_l1"
    model = MlpConfig(
        num_cells=[settings["hidden"]] * 2,
        layer_class=torch.nn.Linear,
        activation_class=torch.nn.ReLU,
        norm_class=torch.nn.LayerNorm,
        norm_kwargs={"normalized_shape": settings["hidden"]},
    )
    return Experiment(
        task=Spread("SIMPLE_SPREAD", settings["env"]),
        algorithm_config=algorithm,
        model_config=model,
        critic_model_config=model,
        seed=seed,
        config=config,
        callbacks=[clock],
    )


def main() -> None:
    """Train and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=15, help="that count")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    clock, settings = Clock(), MAPPO_SPREAD
    with contextlib.redirect_stdout(sys.stderr):
        experiment(settings, args.rollouts + SKIP, args.seed, clock).run()
    seconds, cpu_seconds = (
        last - first for first, last in zip(clock.readings[SKIP - 1], clock.readings[-1], strict=True)
    )
    env_steps = args.rollouts * settings["num_envs"] * settings["n_steps"]
    updates = settings["n_epochs"] * env_steps // settings["batch_size"]
    timing = Timing(seconds, cpu_seconds, env_steps, updates)
    report(timing, case="mappo_spread", side="BenchMARL", seed=args.seed)


if __name__ == "__main__":
    main()
