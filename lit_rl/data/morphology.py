"""``MorphologyDataModule``: rollouts of one policy in many bodies, which a search may choose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import torch

from lit_rl.arguments import (
    Copies,
    Count,
    EpisodeCount,
    NonNegative,
    Number,
    Range,
    Seconds,
    Seed,
    SmallCount,
    Steps,
    check_arguments,
)
from lit_rl.collect.evaluate import evaluate
from lit_rl.collect.random_state import seeded_apart
from lit_rl.data.arguments import WORKERS, CollectorName, EnvironmentArguments, EvalPolicy
from lit_rl.data.loaders import Batches
from lit_rl.data.measure import Measurement, measure_over_workers, measure_with
from lit_rl.data.module import RLDataModule
from lit_rl.data.video import VideoWriter
from lit_rl.envs.arm.body import MAX_JOINTS
from lit_rl.envs.arm.task import make_task
from lit_rl.qd.arms import Goals, fixed_goals, fresh_goals, place_arms
from lit_rl.qd.bodies import Training, choose_bodies
from lit_rl.qd.descriptors import arm_grid, arm_measures
from lit_rl.qd.diversity import cell_entropy, gene_distance, genes_in_use
from lit_rl.qd.fitness import arm_fitness
from lit_rl.qd.fitness import genetic_fitness as with_tiers
from lit_rl.qd.search import Measured
from lit_rl.types import Rollout

ENV = "PlanarArm-v0"
BATCH = {"class_path": "lit_rl.envs.arm.batch.PlanarArms"}
"""Makes the arms of one worker process."""
FILM_EVERY = 4
"""Steps from one picture of a film to the next."""
Placement: TypeAlias = Literal["native", "async"]
"""Arms are stepped in this process (``native``), or divided over worker processes (``async``)."""
SHARES = (0.5, 0.25, 0.25)
ARMS = {"joints": [3, 4, 5, 6], "num_bodies": 512, "morph": True}
"""Settings of the arms where none are given: what is observed includes the body."""


class MorphologyDataModule(RLDataModule):
    """Turns planar arms of many bodies into rollouts ``[T, N, ...]``, for on-policy learners.

    Every ``rollouts_per_bodies`` rollouts each environment gets another body, and begins a new episode. The
    bodies are random, elites of an archive (``MapElites`` fills it) or mutants of elites, equally often of
    each joint count. Evaluations play ``num_bodies`` random arms of the seed ``body_seed``, which training
    does not see.

    Args:
        num_envs: Arms of each rank.
        rollout_steps: Steps T per arm and rollout.
        rollouts_per_epoch: Length of an epoch, equal on all ranks. Evaluation follows every epoch.
        rollouts_per_bodies: Rollouts with the same bodies. Running episodes are left when bodies change, so
            that ``rollouts_per_bodies * rollout_steps`` should be a multiple of ``num_steps`` of the arms.
        env_kwargs: Settings of the arms (``ArmTask``) in place of ``ARMS``, one by one; ``joints``,
            ``length_m``, ``gear`` and ``radius_m`` say which bodies there may be.
        training: ``co_trained`` trains on all three kinds of bodies from the start, ``fine_tuned`` on random
            ones first and then on the elites alone, ``pretrained`` on random ones only. A policy that is
            trained together with the bodies pulls them together, which ``qd/body_entropy`` shows.
            ``independent`` trains ``PopulationPPO``, with ``num_bodies`` of the arms as its members, on the
            bodies that the search asks for; evaluations, which play other bodies, then tell nothing.
        pretrain_env_steps: Env steps on random bodies before a search begins; of ``fine_tuned`` and
            ``co_trained``.
        shares: Shares of elites, random bodies and mutants of ``co_trained``.
        length_cells: Cells of the archive along the length of the arms.
        centroid_cells: Its cells along the place where their torque lies.
        num_goals: Fixed goals on which every body is measured.
        genetic_fitness: Whether fitness has tiers by the reach of the arm; otherwise it is the success rate
            less the distance that is left and the strength of the motors.
        record: Names of values that rollouts record.
        vectorization: ``native`` steps all arms in this process, ``async`` divides those that are trained on
            and evaluated over ``num_workers`` processes, which is for the slow backend ``mujoco``; the
            numbers are the same, bit for bit.
        num_workers: Processes of ``async`` or of ``collector: workers``, actors of ``ray``; None takes one
            per core that this process may use.
        step_timeout_s: Longest time in seconds that one of these processes may take for a step; None takes
            600.
        eval_episodes: Episodes per evaluation, over all ranks.
        eval_policy: ``greedy`` or ``sample``, as of ``RolloutDataModule``.
        seed: Seed of all environments; None takes the run's seed.
        collector: ``inline``, ``workers`` or ``ray``, as of ``RolloutDataModule``. Workers also measure the
            bodies that a search asks for: each a share of them.
        ray_address: Address of the Ray cluster of ``collector: ray``, as of ``RolloutDataModule``.

    Raises:
        ValueError: An argument is out of its range, or ``env_kwargs`` has no such setting.
    """

    def __init__(
        self,
        num_envs: Copies = 256,
        rollout_steps: Steps = 40,
        rollouts_per_epoch: Count = 30,
        rollouts_per_bodies: Count = 5,
        env_kwargs: dict[str, Any] | None = None,
        training: Training = "co_trained",
        pretrain_env_steps: Number = 0,
        shares: tuple[NonNegative, ...] = SHARES,
        length_cells: SmallCount = 20,
        centroid_cells: SmallCount = 10,
        num_goals: Annotated[int, Range(at_least=1, at_most=10**6)] = 16,
        genetic_fitness: bool = False,
        record: list[str] | None = None,
        vectorization: Placement = "native",
        num_workers: SmallCount | None = None,
        step_timeout_s: Seconds | None = None,
        eval_episodes: EpisodeCount = 256,
        eval_policy: EvalPolicy = "greedy",
        seed: Seed | None = None,
        collector: CollectorName = "inline",
        ray_address: str | None = None,
    ) -> None:
        given = dict(locals())
        check_arguments(MorphologyDataModule, given)
        self._settings = {**ARMS, **(env_kwargs or {})}
        if self._settings.get("bodies") is not None:
            raise ValueError(
                "MorphologyDataModule: env_kwargs must not have bodies, which the search chooses; say which "
                "there may be by joints, length_m, gear and radius_m"
            )
        is_share = len(shares) == 3 and all(np.isfinite(share) and share >= 0 for share in shares)
        if not is_share or not sum(shares):
            raise ValueError(
                "shares must be three numbers, at least 0, of elites, random bodies and mutants, and not all "
                f"0, got {list(shares)}"
            )
        if training == "independent":
            self._settings["fixed_bodies"] = True
            if collector != "inline":
                raise ValueError(
                    f"training = independent needs collector = inline, got {collector}: all arms of a policy "
                    "are stepped in one batch"
                )
        self.space = make_task(self._settings).space
        if training == "independent" and num_envs % self._settings["num_bodies"]:
            raise ValueError(
                "training = independent needs a multiple of env_kwargs.num_bodies = "
                f"{self._settings['num_bodies']} as num_envs, got {num_envs}"
            )
        self.grid, self.num_genes = arm_grid(self.space, length_cells, centroid_cells), self.space.num_genes
        self.training: Training = training
        self.pretrain_env_steps, self.num_goals = pretrain_env_steps, num_goals
        self._shares = (shares[0], shares[1], shares[2])
        self._fitness = with_tiers if genetic_fitness else arm_fitness
        self._collector_name = collector
        if num_workers is not None and vectorization != "async" and collector not in WORKERS:
            raise ValueError(
                f"num_workers = {num_workers} needs vectorization = async or collector = workers or ray, got "
                f"{vectorization} and {collector}: all arms are stepped in this process"
            )
        arguments = EnvironmentArguments(
            env=BATCH if vectorization == "async" else ENV,
            num_envs=num_envs,
            vectorization=vectorization,
            num_workers=num_workers,
            step_timeout_s=step_timeout_s,
            env_kwargs=self._settings,
            record=record,
            seed=seed,
            check=False,
            eval_episodes=eval_episodes,
            eval_policy=eval_policy,
            collector=collector,
            ray_address=ray_address,
        )
        super().__init__(arguments, given)
        self.rollout_steps, self.rollouts_per_epoch = rollout_steps, rollouts_per_epoch
        self.rollouts_per_bodies = rollouts_per_bodies
        self.forget()

    @property
    def collect_steps(self) -> int:
        """Steps of every arm in one rollout."""
        return self.rollout_steps

    def train_dataloader(self) -> Batches:
        """Return ``rollouts_per_epoch`` rollouts, each collected when it is asked for."""
        return Batches(self._rollouts, self.rollouts_per_epoch)

    def _rollouts(self) -> Iterator[Rollout]:
        self.environments.begin()
        for _ in range(self.rollouts_per_epoch):
            if self._is_new or (self.training != "independent" and self._is_time):
                self._change_bodies()
            self._num_rollouts += 1
            yield self.environments.collect(self.environments.learner, self.rollout_steps)

    @property
    def _is_time(self) -> bool:
        """Whether the bodies were trained on for long enough."""
        return self._num_rollouts % self.rollouts_per_bodies == 0

    def _change_bodies(self) -> None:
        """Give every environment another body."""
        if self._rng is None:
            self._rng = np.random.default_rng([self.environments.seed, 3])
        self._is_new = False
        if self.training == "independent" and len(self._elites):
            self._set_bodies(np.resize(self._elites, (self._settings["num_bodies"], self.num_genes)))
            return
        is_searching = self.environments.learner.env_steps >= self.pretrain_env_steps
        uses_elites = self.training not in ("pretrained", "independent") and is_searching
        shares = (1.0, 0.0, 0.0) if self.training == "fine_tuned" else self._shares
        elites = self._elites if uses_elites else self._elites[:0]
        num_sizes = len(self.space.joints)
        num = self._settings["num_bodies"] if self.training == "independent" else self.num_envs
        self._set_bodies(choose_bodies(self._rng, num, elites, shares, num_sizes, self.num_genes))

    def _set_bodies(self, genes: np.ndarray) -> None:
        self.training_genes = genes
        self.environments.collector.restart_with("set_bodies", self.space.decode(genes))

    # What a search asks for

    def train_on(self, elites: np.ndarray) -> None:
        """Take bodies to train on from these genotypes ``(elites, genes)``, from the next change on.

        With ``independent`` these are the bodies, from the next rollout on: the first one for the first
        member; where they are fewer than members, they come again.

        Raises:
            ValueError: They are more than members.
        """
        self._elites = np.array(elites, np.float64)
        if self.training == "independent":
            self._is_new = True
            if len(elites) > self._settings["num_bodies"]:
                raise ValueError(
                    f"training = independent has {self._settings['num_bodies']} policies (num_bodies), but "
                    f"{len(elites)} bodies are to be trained; make batch_size of the search smaller"
                )

    def measure(self, genes: np.ndarray, fresh: int | None = None) -> Measured:
        """Measure bodies with the greedy policy on the fixed goals: in one batch, or a share in each worker.

        Nothing that training draws depends on it.

        Args:
            genes: ``(bodies, genes)``.
            fresh: Seed of other goals and start poses, in place of the fixed ones.
        """
        goals = fixed_goals(self.num_goals) if fresh is None else fresh_goals(fresh, self.num_goals)
        how = Measurement(self.space, goals, self._fitness, self._settings)
        environments, learner = self.environments, self.environments.learner
        with torch.no_grad(), environments.precision():
            if self._collector_name == "inline":
                return measure_with(learner, how, genes, 0, learner.device)
            return measure_over_workers(environments.workers, learner, learner.policy_version, how, genes)

    def film(self, genes: np.ndarray, path: Path) -> None:
        """Write an episode of the policy in the body of one genotype ``(genes,)`` as a GIF, in real time.

        Raises:
            OSError: It cannot be written.
        """
        places = fixed_goals(self.num_goals).places
        goals = Goals(places[len(places) // 2 :][:1])
        arms = place_arms(self.space, self.space.decode(genes[None]), goals, self._settings)
        video = VideoWriter(arms, path)

        def on_step(running: bool) -> None:
            if arms.step_count[0] % FILM_EVERY == 0:
                video.on_step(running)

        try:
            with torch.no_grad(), self.environments.precision(), seeded_apart(goals.seed):
                learner = self.environments.learner
                evaluate(learner, arms, 0, learner.device, on_step=on_step)
        finally:
            arms.close()
        step_s = arms.task.step_s * arms.task.frame_skip
        video.save(frames_per_second=max(1, round(1 / (FILM_EVERY * step_s))))

    def describe(self, genes: np.ndarray) -> list[dict[str, Any]]:
        """Return ``lengths`` in m, ``gears`` in Nm and ``radii`` in m of the arm of each genotype."""
        bodies = self.space.decode(genes)
        return [{"kind": "planar_arm", **bodies.describe(row)} for row in range(len(bodies))]

    def diversity(self) -> tuple[float, float]:
        """Return entropy over cells in nats and mean gene distance of the bodies that are trained on."""
        if not len(self.training_genes):
            return 0.0, 0.0
        bodies = self.space.decode(self.training_genes)
        low, high = np.array(self.grid.ranges).T
        cells = np.array(self.grid.cells)
        place = ((arm_measures(bodies) - low) / (high - low) * cells).astype(np.int64).clip(0, cells - 1)
        index = np.asarray(np.ravel_multi_index(tuple(place.T), tuple(self.grid.cells)))
        used = genes_in_use(bodies.num_joints, self.num_genes, MAX_JOINTS)
        return cell_entropy(index), gene_distance(self.training_genes, used)

    # State

    def forget(self) -> None:
        """Begin with random bodies, because another learner starts training."""
        self._num_rollouts, self._is_new = 0, True
        self._rng: np.random.Generator | None = None
        self._elites = np.zeros((0, self.num_genes))
        self.training_genes = np.zeros((0, self.num_genes))

    def local_state(self) -> dict[str, Any]:
        """Return the genes of elites and bodies, and where the choice of bodies stands."""
        return {
            "num_rollouts": self._num_rollouts,
            "is_new": self._is_new,
            "rng": None if self._rng is None else self._rng.bit_generator.state,
            "elites": torch.from_numpy(self._elites.copy()),
            "training_genes": torch.from_numpy(self.training_genes.copy()),
        }

    def load_local_state(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`local_state`; ``{}`` begins with random bodies."""
        self.forget()
        if not state:
            return
        self._num_rollouts, self._is_new = state["num_rollouts"], state.get("is_new", False)
        if state["rng"] is not None:
            self._rng = np.random.default_rng(0)
            self._rng.bit_generator.state = state["rng"]
        self._elites = state["elites"].numpy().copy()
        self.training_genes = state["training_genes"].numpy().copy()
