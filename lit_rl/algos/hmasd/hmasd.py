"""Hierarchical multi-agent skill discovery as a LightningModule (Yang et al. 2023, NeurIPS).

One batch is one rollout of one version of the policy, and all networks are updated on all of it. Axes: T
steps, N environments, A agents, S state features, O observation features, B samples (decisions), J = A + 1
tokens (the team's is the first).
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from lit_rl import metrics
from lit_rl.algos.hmasd.decisions import (
    SKILL_LOG_PROB,
    Decisions,
    Seen,
    as_in_the_paper,
    blocks_of,
    gather,
    rows_to_value,
    with_skills,
)
from lit_rl.algos.hmasd.individual_discriminator import IndividualDiscriminator
from lit_rl.algos.hmasd.logged import named_losses
from lit_rl.algos.hmasd.replay_audit import audit
from lit_rl.algos.hmasd.requirements import check_heads, check_rollout_steps, check_spec
from lit_rl.algos.hmasd.skill_coordinator import SkillCoordinator
from lit_rl.algos.hmasd.skill_discoverer import audit_discoverer, skill_discoverer
from lit_rl.algos.hmasd.skill_rewards import Weights, skill_rewards
from lit_rl.algos.hmasd.team_discriminator import TeamDiscriminator
from lit_rl.algos.hmasd.transformer import Reduction
from lit_rl.algos.module import MatmulPrecision, RLModule, linear_schedule
from lit_rl.algos.multi_agent import Views
from lit_rl.algos.ppo.policy import UpdateSettings
from lit_rl.arguments import Count, Fraction, NonNegative, Positive, Share, SmallCount, Width, check_arguments
from lit_rl.encoders.perceptron import PerceptronEncoder
from lit_rl.flat import FlatAdam
from lit_rl.losses import weighted_mean
from lit_rl.nested import map_nested
from lit_rl.nets import Activation, EncoderFactory, Flatten
from lit_rl.normalize import ValueNorm
from lit_rl.types import AGENT_SKILLS, SKILL_START, STATE, TEAM_SKILL, Decision, EnvSpec, Nested, Rollout

log = logging.getLogger("lit_rl")

CLOCK, VERSION, LOW = "clock", "version", "low"


class HMASD(RLModule):
    """Learns skills of a team and of its agents, and a policy over them, from a shared reward.

    Every ``k`` steps the skill coordinator pi_h gives the team a skill Z and each agent a skill z^i. In
    between each agent acts on its own observation and skill (the skill discoverer pi_l). Its reward is Eq. 4:
    ``lambda_e`` times the environment's reward, plus how well two discriminators recognise the skills from
    what follows. The coordinator is rewarded by the sum of the environment's rewards over its k steps.

    Each environment has a clock of its own, which starts anew with each episode. Skills that an older version
    of the policy decided are decided anew, so that a rollout is strictly on-policy at both levels. The steps
    under one decision are a block; where the end of the rollout cuts it, it ends with the value of what
    follows.

    Logs, beside what ``PPO`` logs for the skill discoverer and what ``RLModule`` logs: ``Losses/*``,
    ``Entropy/*``, ``Rewards/*``, ``ValueEstimates/*``, ``Buffer/*level*``, ``Skills/Information/*``,
    ``policy/coordinator_kl``, ``update/replay_error`` and ``update/replay_error_coordinator``.

    Args:
        n_Z: Number of team skills.
        n_z: Number of skills of an agent.
        k: Env steps of a decision. With ``skill_sync = divide`` it must divide the steps of a rollout.
        lambda_e: Weight of the environment's reward for the skill discoverer.
        lambda_D: Weight of log q_D(Z | s'), by which the team's skills become distinct. 0 switches it off.
        lambda_d: Weight of log q_d(z | o', Z), by which agents' skills become distinct. 0 switches it off.
        lambda_h: Weight of the coordinator's entropy. More keeps all skills in use for longer.
        lambda_l: Weight of the entropy of the agents' actions.
        skill_baseline: Add log n_Z and log n_z to the log-probabilities, so that guessing earns nothing; the
            paper does not, which makes every step cost something.
        skill_last_layer: Skills join actor and critic after the GRU instead of with the observation.
        skill_sync: ``divide`` refuses a ``k`` that does not divide the rollout; ``truncate`` lets the end of
            a rollout cut blocks.
        token_reduction: ``mean`` over the losses of a decision's tokens as in the authors' code, or their
            ``sum`` as in the paper.
        hidden: Widths of the layers before the GRU, and of the discriminators.
        encoder: Network before the GRU in the actor of the discoverer, given by its ``class_path`` in YAML.
            None is a perceptron through ``hidden`` with layer normalisation.
        critic_encoder: Network before the GRU in its critic, which sees the state; None is such a perceptron.
        activation: Function between these layers.
        embedding: Width of the coordinator's tokens.
        blocks: Blocks of the coordinator's encoder and of its decoder.
        heads: Heads of the coordinator's attention; must divide ``embedding``.
        gru: Hidden units of the skill discoverer's memory; None is a policy without memory.
        chunk_length: Steps of backpropagation through time; must divide the rollout's steps.
        learning_rate: Step size of Adam, for all networks.
        anneal_env_steps: Learning rate and ``clip`` go linearly to 0 over so many env steps; None keeps them.
        update_epochs: Passes of coordinator and discoverer over each rollout.
        discriminator_epochs: Passes of the discriminators over each rollout.
        minibatches: Parts into which the discoverer's rollout is divided; the others take it whole.
        gamma: Discount, per env step for the discoverer and per decision for the coordinator.
        gae_lambda: Decay of generalised advantage estimation, for coordinator and discoverer: 1 is unbiased,
            less trades variance for bias.
        clip: Half width of the trusted interval of the probability ratio, for coordinator and discoverer.
        clip_value: Half width of the trusted interval of the value, for both; None does not clip.
        value_coef: Weight of the value loss, for both.
        huber_delta: Value errors beyond this count linearly, not squared, for both; None squares all.
        value_norm: The critics predict returns normalised by their running mean and deviation; coordinator
            and discoverer have statistics of their own.
        max_grad_norm: Largest norm of the gradient of each network; None does not clip.
        normalize_observation: Normalise what the discoverer sees by its running mean and deviation, which are
            frozen within a rollout and its update. All networks also normalise each vector they see.
        agent_ids: Append the number of the agent to what the actor of the discoverer sees.
        paper_compat: Do as the authors' code where that differs from what is right: clocks run with the
            rollout, through the ends of episodes (whose rewards then mix); the discriminators judge an
            episode's last step by the first observation of the next; a time limit has no value after it.
        replay_tolerance: Before an update the log-probabilities of decisions and actions are computed again,
            and may differ from the collected ones by no more than this times their size (at least 1). None
            only logs the difference.
        compile: Compile the gradient of the discoverer: the start is slow, updates are faster.
        spec: Observation and action of the environment; None takes those of the data module.
        threads: OpenMP threads while fitting; ``auto`` decides by the size of the networks and idle cores.
        matmul_precision: Route of float32 matrix products; ``auto`` measures it for wide networks.

    Raises:
        ValueError: An argument is outside its range.
    """

    acts_by_state = True

    def __init__(
        self,
        n_Z: SmallCount = 3,
        n_z: SmallCount = 3,
        k: Count = 16,
        lambda_e: NonNegative = 1.0,
        lambda_D: NonNegative = 0.1,
        lambda_d: NonNegative = 0.5,
        lambda_h: NonNegative = 0.001,
        lambda_l: NonNegative = 0.01,
        skill_baseline: bool = False,
        skill_last_layer: bool = False,
        skill_sync: Literal["divide", "truncate"] = "divide",
        token_reduction: Reduction = "mean",
        hidden: tuple[Width, ...] = (64, 64),
        encoder: EncoderFactory | None = None,
        critic_encoder: EncoderFactory | None = None,
        activation: Activation = "relu",
        embedding: Width = 64,
        blocks: SmallCount = 1,
        heads: SmallCount = 1,
        gru: Width | None = 64,
        chunk_length: Count = 8,
        learning_rate: Share = 5e-4,
        anneal_env_steps: Count | None = None,
        update_epochs: SmallCount = 15,
        discriminator_epochs: SmallCount = 15,
        minibatches: Count = 1,
        gamma: Share = 0.99,
        gae_lambda: Fraction = 0.95,
        clip: Share = 0.2,
        clip_value: Positive | None = 0.2,
        value_coef: NonNegative = 1.0,
        huber_delta: Positive | None = 10.0,
        value_norm: bool = True,
        max_grad_norm: Positive | None = 10.0,
        normalize_observation: bool = False,
        agent_ids: bool = False,
        paper_compat: bool = False,
        replay_tolerance: NonNegative | None = 1e-4,
        compile: bool = False,
        spec: EnvSpec | None = None,
        threads: SmallCount | Literal["auto"] = "auto",
        matmul_precision: MatmulPrecision = "auto",
    ) -> None:
        check_arguments(HMASD, locals())
        super().__init__(spec, threads, matmul_precision, gamma)
        self.save_hyperparameters(ignore=["spec"])
        self.register_load_state_dict_pre_hook(_drop_nested_counters)
        check_heads(heads, embedding)
        self.n_Z, self.n_z, self.k = n_Z, n_z, k
        self.lambda_e, self.lambda_D, self.lambda_d = lambda_e, lambda_D, lambda_d
        self.skill_baseline, self.skill_last_layer = skill_baseline, skill_last_layer
        self.skill_sync: Literal["divide", "truncate"] = skill_sync
        self.anneal_env_steps, self.minibatches = anneal_env_steps, minibatches
        self.gae_lambda, self.paper_compat, self.replay_tolerance = gae_lambda, paper_compat, replay_tolerance
        self.learning_rate, self.max_grad_norm, self.compile_update = learning_rate, max_grad_norm, compile
        self.normalize_observation, self.value_norm = normalize_observation, value_norm
        self.agent_ids, self.gru = agent_ids, gru
        self.activation: Activation = activation
        self.num_decisions = 0
        self._begins_training = False
        perceptron = partial(PerceptronEncoder, hidden=tuple(hidden), activation=activation, layer_norm=True)
        self.encoders = encoder or perceptron, critic_encoder or perceptron
        self.settings = UpdateSettings(
            learning_rate, update_epochs, gamma, gae_lambda, clip, clip_value, value_coef, lambda_l,
            huber_delta, chunk_length=chunk_length,
        )  # fmt: skip
        self.coordinator = SkillCoordinator(
            n_Z, n_z, embedding, blocks, heads, learning_rate, update_epochs, clip, clip_value, huber_delta,
            value_coef, entropy_coef=lambda_h, reduction=token_reduction,
        )  # fmt: skip
        self.team_discriminator = TeamDiscriminator(n_Z, hidden, discriminator_epochs)
        self.individual_discriminator = IndividualDiscriminator(
            n_Z, n_z, hidden=hidden, epochs=discriminator_epochs
        )

    # Acting

    def build(self, spec: EnvSpec) -> None:
        """Create all networks for ``spec``.

        Raises:
            ValueError: The environment has no agents, or no global state.
        """
        check_spec(spec)
        self.views = Views(spec)
        self.flatten = Flatten(self.views.actor)
        features = self.flatten.out_features
        self.coordinator.build(spec.state, features)
        self.discoverer = skill_discoverer(
            spec, self.n_Z, self.n_z, self.skill_last_layer, self.agent_ids, self.settings, self.encoders,
            self.activation, self.gru, self.normalize_observation, self.value_norm,
        )  # fmt: skip
        self.team_discriminator.build(spec.state)
        self.individual_discriminator.build(features)
        self.high_value_norm = ValueNorm() if self.value_norm else None

    def initial_carry(self, num_envs: int) -> Nested:
        """Return a carry without skills, so that every environment decides at its first step."""
        agents = self.views.num_agents
        zeros = partial(torch.zeros, dtype=torch.int64, device=self.device)
        return {
            TEAM_SKILL: zeros(num_envs),
            AGENT_SKILLS: zeros(num_envs, agents),
            SKILL_LOG_PROB: torch.zeros(num_envs, agents + 1, device=self.device),
            CLOCK: zeros(num_envs),
            VERSION: zeros(num_envs) - 1,
            LOW: self.discoverer.initial_carry(num_envs),
        }

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        """Decide skills where it is time, then act by them; records skills, clocks and log-probabilities."""
        start = (carry[CLOCK] >= self.k) | (carry[VERSION] != self.policy_version)
        if not self.paper_compat:
            start |= reset
        if self._begins_training:  # skills that this version decided before are of no rollout to come
            start, self._begins_training = torch.ones_like(start), False
        skills = {key: carry[key] for key in (TEAM_SKILL, AGENT_SKILLS, SKILL_LOG_PROB)}
        if (
            torch.compiler.is_exporting()
        ):  # a program cannot pick environments: decide everywhere, then choose
            anew = self._decide(obs, skills, torch.arange(start.shape[0]), greedy)
            chosen = {1: start, 2: start.unsqueeze(-1)}
            skills = {key: torch.where(chosen[old.ndim], anew[key], old) for key, old in skills.items()}
        elif len(envs := start.nonzero().squeeze(-1)):
            skills = self._decide(obs, skills, envs, greedy)
        seen = obs | {TEAM_SKILL: skills[TEAM_SKILL], AGENT_SKILLS: skills[AGENT_SKILLS]}
        action, low, extras = self.discoverer.act(seen, carry[LOW], reset, greedy=greedy)
        after = skills | {
            CLOCK: torch.where(start, 1, carry[CLOCK] + 1),
            VERSION: torch.full_like(carry[VERSION], self.policy_version),
            LOW: low,
        }
        return Decision(action, after, extras | skills | {SKILL_START: start})

    def _decide(
        self, obs: Nested, skills: dict[str, Tensor], envs: Tensor, greedy: bool
    ) -> dict[str, Tensor]:
        """Return ``skills`` with newly decided ones in the environments with the numbers ``envs``."""
        state, own = self._vectors(map_nested(lambda leaf: leaf[envs], obs))
        decided, log_prob = self.coordinator.decide(state, own, greedy)
        fresh = {TEAM_SKILL: decided[:, 0], AGENT_SKILLS: decided[:, 1:], SKILL_LOG_PROB: log_prob}
        return {key: old.index_copy(0, envs, fresh[key].to(old)) for key, old in skills.items()}

    def _vectors(self, obs: Nested) -> tuple[Tensor, Tensor]:
        """Return global state (..., S) and observations (..., A, O), in the precision of the weights."""
        dtype = self.coordinator.norm_encoder.weight.dtype
        return obs[STATE].to(dtype), self.flatten(self.views(obs)).to(dtype)

    # Learning

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Make one Adam for each network: coordinator, discoverer, and the two discriminators."""
        rate, largest = self.learning_rate, self.max_grad_norm
        return [
            self.adam(self.coordinator, rate, 1e-5, largest),
            self.adam(self.discoverer.network, rate, 1e-5, largest, compile=self.compile_update),
            self.adam(self.team_discriminator, rate, 1e-5, largest),
            self.adam(self.individual_discriminator, rate, 1e-5, largest),
        ]

    @property
    def rows(self) -> int:
        """Rows of a minibatch of the skill discoverer, those of each agent counted."""
        datamodule = getattr(self.trainer, "datamodule", None)
        return getattr(datamodule, "rollout_rows", self.minibatches) // self.minibatches

    def on_fit_start(self) -> None:
        """Refuse a ``k`` that does not fit the rollout, before anything is collected."""
        super().on_fit_start()
        if steps := getattr(getattr(self.trainer, "datamodule", None), "rollout_steps", None):
            check_rollout_steps(steps, self.k, self.skill_sync)

    def on_train_start(self) -> None:
        """Log how skills and rollouts fit together."""
        super().on_train_start()
        self._begins_training = True
        log.info(
            "HMASD: %d team skills, %d agent skills, decided every %d env steps and anew after each update; "
            "blocks cut by a rollout's end are closed with the value of what follows (skill_sync = %s)",
            self.n_Z, self.n_z, self.k, self.skill_sync,
        )  # fmt: skip

    def training_step(self, rollout: Rollout, batch_idx: int) -> None:
        """Update coordinator, discoverer and discriminators by a rollout of the present policy."""
        self.begin_batch(rollout, is_on_policy=True)
        check_rollout_steps(len(rollout["terminated"]), self.k, self.skill_sync)
        if self.paper_compat:
            rollout = as_in_the_paper(rollout)
        high, low, team, individual = self.raw_optimizers()
        factor = linear_schedule(self.env_steps, self.anneal_env_steps)
        with torch.no_grad():
            vectors, final = self._vectors(rollout["obs"]), self._vectors(rollout["final_obs"])
            seen = Seen(*vectors, *final, rollout["final_index"])
            next_state, next_obs = seen.following(self.paper_compat)
            reward_TNA, values = self._rewards(rollout, next_state, next_obs)
            decisions, decided = self._decisions(rollout, seen)
        of_coordinator = self.coordinator.learn(decisions, high, self.ranks, factor)
        of_discoverer = self._train_discoverer(rollout, reward_TNA, low, factor)
        skills = rollout["extras"][TEAM_SKILL], rollout["extras"][AGENT_SKILLS]
        of_team = self.team_discriminator.learn(next_state, skills[0], rollout["valid"], team)
        acted_TNA = self.views.acted(rollout)
        of_agents = self.individual_discriminator.learn(next_obs, *skills, acted_TNA, individual)
        self.num_decisions += len(decisions.state)
        values |= decided | of_discoverer
        values[metrics.BUFFER_LOW] = float(reward_TNA.numel())
        values[metrics.BUFFER_HIGH] = float(len(decisions.state))
        values[metrics.BUFFER_HIGH_TOTAL] = float(self.num_decisions)
        values |= named_losses(of_coordinator, of_discoverer, of_team + of_agents)
        self.finish_batch(values, rollout)

    def _train_discoverer(
        self, rollout: Rollout, reward_TNA: Tensor, optimizer: FlatAdam, factor: float
    ) -> dict[str, Tensor | float]:
        """Update the discoverer by PPO, on agents that see their skills; return values to log."""
        policy, ranks = self.discoverer, self.ranks
        rollout = with_skills(rollout, reward_TNA, rollout["carry"][LOW])
        replayed = policy.replay(rollout)
        audited = audit_discoverer(policy, rollout, replayed, self.replay_tolerance)
        samples, estimated = policy.samples(rollout, replayed, ranks)
        batch_size = reward_TNA.numel() // self.minibatches
        steps, optimized = policy.optimize(samples, rollout["valid"], optimizer, ranks, batch_size, factor)
        policy.observe(rollout, ranks)
        self.updates += steps
        return audited | estimated | optimized

    def _rewards(
        self, rollout: Rollout, next_state: Tensor, next_obs: Tensor
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Compute the rewards (T, N, A) of the skill discoverer by Eq. 4, and values to log."""
        extras = rollout["extras"]
        reward_TNA, self.reward_components, values = skill_rewards(
            rollout["reward"],
            self.team_discriminator(next_state, extras[TEAM_SKILL]),
            self.individual_discriminator(next_obs, extras[TEAM_SKILL], extras[AGENT_SKILLS]),
            Weights(self.lambda_e, self.lambda_D, self.lambda_d),
            (self.n_Z, self.n_z),
            self.skill_baseline,
            rollout["valid"],
            self.views.acted(rollout),
        )
        return reward_TNA, values

    def _decisions(self, rollout: Rollout, seen: Seen) -> tuple[Decisions, dict[str, Tensor | float]]:
        """Gather the decisions that the coordinator learns from, and values to log."""
        blocks = blocks_of(rollout, self.paper_compat)
        output_BJ = self.coordinator.value(self.coordinator.encode(*rows_to_value(seen, blocks)))
        norm = self.high_value_norm
        value_BJ = output_BJ if norm is None else norm.denormalize(output_BJ)
        decisions = gather(
            rollout, seen, blocks, output_BJ, self.views.alive(rollout["obs"]), self.k, self.gamma,
            self.gae_lambda, norm, self.ranks.sum,
        )  # fmt: skip
        log_prob_BJ, entropy_BJ, _ = self.coordinator(decisions.state, decisions.obs, decisions.skills)
        weight_BJ, exists_B = decisions.weight, (blocks.length > 0).flatten()
        value_BJ = value_BJ[: len(exists_B)][exists_B]
        tolerance = self.replay_tolerance
        error = audit(log_prob_BJ, decisions.log_prob, weight_BJ, tolerance, "the skill coordinator")
        return decisions, {
            metrics.REPLAY_ERROR_HIGH: error,
            metrics.ENTROPY_TEAM: entropy_BJ[:, 0].mean(),
            metrics.ENTROPY_AGENTS: weighted_mean(entropy_BJ[:, 1:], weight_BJ[:, 1:]),
            metrics.REWARD_HIGH: blocks.reward.flatten()[exists_B].mean(),
            metrics.VALUE_STATE: value_BJ[:, 0].mean(),
            metrics.VALUE_AGENTS: weighted_mean(value_BJ[:, 1:], weight_BJ[:, 1:]),
        }

    def get_extra_state(self) -> dict[str, Any]:
        """Return the counters, among them the number of decisions."""
        return super().get_extra_state() | {"num_decisions": self.num_decisions}

    def local_state(self) -> dict[str, Any]:
        """Return the state of the skill discoverer that differs between ranks."""
        return self.discoverer.local_state()

    def load_local_state(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`local_state` returned."""
        self.discoverer.load_local_state(state)


def _drop_nested_counters(_: HMASD, state_dict: dict[str, Any], prefix: str, *__: Any) -> None:
    """Let older checkpoints load, in which the skill discoverer was a learner with counters of its own."""
    state_dict.pop(f"{prefix}discoverer._extra_state", None)
