"""Proximal policy optimization as a LightningModule (Schulman 2017, arXiv:1707.06347).

One batch is one rollout ``(T, N, ...)``; ``training_step`` does all epochs and minibatches of its update.
With several agents it is MAPPO (``central_critic``) or IPPO (Yu 2022, arXiv:2103.01955). Axes: T steps,
N environments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from torch import Tensor
from torch.optim import Optimizer

from lit_rl.algos.module import MatmulPrecision, RLModule, linear_schedule
from lit_rl.algos.multi_agent import AgentIds, Views
from lit_rl.algos.ppo.actor_critic import ActorCritic
from lit_rl.algos.ppo.policy import ProximalPolicy, UpdateSettings
from lit_rl.algos.ppo.symmetry import check_mirror
from lit_rl.arguments import Count, Fraction, NonNegative, Positive, Share, SmallCount, Width, check_arguments
from lit_rl.nets import Activation, EncoderFactory
from lit_rl.types import Decision, EnvSpec, Nested, Rollout


class PPO(RLModule):
    """PPO for discrete, multi-discrete and continuous actions, with masks, Dict observations, agents, memory.

    Several agents share one policy, and nothing is learned from an agent after it left an episode.

    Logs: ``loss/policy``, ``loss/value``, ``loss/total``, ``policy/entropy``, ``policy/kl``,
    ``policy/clip_fraction``, ``policy/learning_rate``, ``value/explained_variance``, ``update/epochs`` and
    what ``RLModule`` logs.

    Args:
        hidden: Widths of the hidden layers of actor and critic (each has its own network).
        activation: Function between layers. ``relu`` is faster, ``tanh`` the choice of the published results.
        learning_rate: Step size of Adam. More learns faster until updates overshoot (``policy/kl`` > 0.03).
        anneal_env_steps: Learning rate and ``clip`` go linearly to 0 over so many env steps; None keeps them.
        batch_size: Transitions per minibatch and rank, those of each agent counted; must divide the rollout.
            Smaller gives more, noisier steps.
        update_epochs: Passes over each rollout. More uses samples better, and drifts further from them.
        gamma: Discount per step. More looks further ahead, with more variance.
        gae_lambda: Decay of generalised advantage estimation: 1 is unbiased, less trades variance for bias.
        clip: Half width of the trusted interval of the probability ratio. Less is more cautious.
        clip_value: Half width of the trusted interval of the value; None (recommended) does not clip.
        value_coef: Weight of the value loss.
        huber_delta: Value errors beyond this count linearly, not squared (10 in MAPPO); None squares all.
        value_norm: The critic predicts returns normalised by their running mean and deviation;
            ``clip_value`` and ``huber_delta`` are in units of this deviation.
        entropy_coef: Weight of the entropy bonus. More explores longer.
        max_grad_norm: Largest norm of the gradient over all parameters; None does not clip.
        target_kl: Stop the epochs of an update once KL exceeds 1.5 times this; decided together by all ranks.
        adaptive_kl: After each epoch, divide the learning rate by 1.5 where KL exceeds twice this, multiply
            it by 1.5 below half of this (0.01 in Rudin 2021, arXiv:2109.11978); None leaves it alone.
        symmetry_augmentation: Learn from the mirror image of each sample, too, in environments that know
            theirs (``EnvSpec.mirror``), which doubles the gradient steps.
        normalize_advantage: Give the advantages of each minibatch mean 0 and deviation 1, over all ranks.
        normalize_observation: Normalise observations by their running mean and deviation, which are frozen
            within a rollout and its update.
        normalize_return: Divide rewards by the running deviation of the discounted return (Engstrom 2020).
        central_critic: The critic sees the global state of several agents (MAPPO) or, of one agent, the part
            ``critic`` of its observation, which the actor does not see.
        agent_ids: Append the number of the agent, as a one-hot vector, to what the shared networks see.
            ``actor`` leaves a central critic with one value of a state for all agents, which costs less.
        encoder: Network in front of actor and critic, by its ``class_path`` in YAML. None flattens.
        critic_encoder: Network in front of a central critic. None flattens the state.
        share_encoder: Whether actor and critic have one encoder together instead of one each.
        initial_std: Deviation of continuous actions at the start, in their own units. More explores wider.
        gru: Hidden units of a recurrent core in actor and critic; None is a policy without memory.
        chunk_length: Steps of backpropagation through time; must divide the rollout's steps.
        compile: Compile the gradient of a minibatch. The start is slow (very slow with a GRU, whose chunk is
            unrolled), updates are faster; it pays off in long runs.
        spec: Observation and action of the environment; None takes those of the data module.
        threads: OpenMP threads while fitting; ``auto`` decides by the size of the networks and idle cores.
        matmul_precision: Route of float32 matrix products; ``auto`` measures it for wide networks.

    Raises:
        ValueError: An argument is outside its range, or two contradict each other.
    """

    def __init__(
        self,
        hidden: tuple[Width, ...] = (64, 64),
        activation: Activation = "tanh",
        learning_rate: Share = 3e-4,
        anneal_env_steps: Count | None = None,
        batch_size: Count = 64,
        update_epochs: SmallCount = 10,
        gamma: Share = 0.99,
        gae_lambda: Fraction = 0.95,
        clip: Share = 0.2,
        clip_value: Positive | None = None,
        value_coef: NonNegative = 0.5,
        entropy_coef: NonNegative = 0.0,
        huber_delta: Positive | None = None,
        value_norm: bool = False,
        max_grad_norm: Positive | None = 0.5,
        target_kl: Positive | None = None,
        adaptive_kl: Positive | None = None,
        symmetry_augmentation: bool = False,
        normalize_advantage: bool = True,
        normalize_observation: bool = False,
        normalize_return: bool = False,
        central_critic: bool = False,
        agent_ids: AgentIds = False,
        encoder: EncoderFactory | None = None,
        critic_encoder: EncoderFactory | None = None,
        share_encoder: bool = False,
        initial_std: Positive = 1.0,
        gru: Width | None = None,
        chunk_length: Count = 16,
        compile: bool = False,
        spec: EnvSpec | None = None,
        threads: SmallCount | Literal["auto"] = "auto",
        matmul_precision: MatmulPrecision = "auto",
    ) -> None:
        given = dict(locals())
        check_arguments(PPO, given)
        for problem in _contradictions(given):
            raise ValueError(f"PPO: {problem}")
        super().__init__(spec, threads, matmul_precision, gamma)
        self.save_hyperparameters(ignore=["spec"])
        self.accept_moved_parts("policy.", "network.", "observation_norm.", "return_scale.", "value_norm.")
        self.batch_size, self.compile_update = batch_size, compile
        self.agent_ids: AgentIds = agent_ids
        self.central_critic = self.looks_at_state = central_critic
        self.lag.is_accepted = True  # the clipped ratios may be those to an older policy
        self.gru, self.max_grad_norm, self.anneal_env_steps = gru, max_grad_norm, anneal_env_steps
        self.settings = UpdateSettings(
            learning_rate, update_epochs, gamma, gae_lambda, clip, clip_value, value_coef, entropy_coef,
            huber_delta, target_kl, normalize_advantage, chunk_length, adaptive_kl, symmetry_augmentation,
        )  # fmt: skip
        self._network_arguments: dict[str, Any] = {
            "hidden": list(hidden),
            "activation": activation,
            "encoder": encoder,
            "critic_encoder": critic_encoder,
            "share_encoder": share_encoder,
            "gru": gru,
            "initial_std": initial_std,
        }
        self._normalization = {
            "normalize_observation": normalize_observation,
            "normalize_return": normalize_return,
            "value_norm": value_norm,
        }

    def build(self, spec: EnvSpec) -> None:
        """Create actor, critic and the statistics that normalise their inputs and outputs."""
        if self.settings.symmetry_augmentation:
            check_mirror(spec)
        views = Views(spec, self.agent_ids, self.central_critic)
        network = ActorCritic(views, **self._network_arguments)
        self.policy = ProximalPolicy(views, network, self.settings, **self._normalization)

    @property
    def rows(self) -> int:
        """Rows of a minibatch."""
        return self.batch_size

    def initial_carry(self, num_envs: int) -> Nested:
        """Return hidden states before the first step; ``{}`` without a GRU."""
        return self.policy.initial_carry(num_envs)

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        """Sample the policy, or take its mode."""
        return self.policy.act(obs, carry, reset, greedy=greedy)

    def configure_optimizers(self) -> Optimizer:
        """Make one Adam for actor and critic, with epsilon 1e-5 as in the reference implementation."""
        rate, largest = self.settings.learning_rate, self.max_grad_norm
        return self.adam(self.policy.network, rate, 1e-5, largest, compile=self.compile_update)

    def training_step(self, rollout: Rollout, batch_idx: int) -> None:
        """Update actor and critic by a rollout of the present policy (Schulman 2017, algorithm 1)."""
        self.begin_batch(rollout, is_on_policy=True)
        (optimizer,), policy, ranks = self.raw_optimizers(), self.policy, self.ranks
        factor = linear_schedule(self.env_steps, self.anneal_env_steps)
        replayed, lagged = self.lag.behaviour(policy.replay(rollout), rollout)  # old values
        samples, estimated = policy.samples(rollout, replayed, ranks)  # advantages and value targets
        minibatches = rollout["valid"], optimizer, ranks, self.batch_size, factor
        steps, optimized = policy.optimize(samples, *minibatches)  # epochs: minibatches, clipped loss, step
        policy.observe(rollout, ranks)  # running statistics of observations, for the next rollout
        self.updates += steps
        self.finish_batch(estimated | optimized | lagged, rollout)

    def local_state(self) -> dict[str, Any]:
        """Return the running returns of this rank's environments."""
        return self.policy.local_state()

    def load_local_state(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`local_state` returned."""
        self.policy.load_local_state(state)


def _contradictions(given: Mapping[str, Any]) -> Iterator[str]:
    """Yield, for arguments that contradict each other, what is wrong and what to do."""
    if given["share_encoder"] and given["encoder"] is None:
        yield "share_encoder = true contradicts encoder = null; give an encoder or leave it false"
    if given["share_encoder"] and given["central_critic"]:
        yield "share_encoder = true contradicts central_critic = true, which sees something else"
    if given["critic_encoder"] is not None and not given["central_critic"]:
        yield "critic_encoder is for a central critic, but central_critic = false; give encoder alone"
    if given["agent_ids"] == "actor" and not given["central_critic"]:
        yield "agent_ids = actor needs a central critic, but central_critic = false; give agent_ids = true"
    if given["adaptive_kl"] is not None and given["anneal_env_steps"] is not None:
        yield "adaptive_kl and anneal_env_steps both set the learning rate; give one of them"
    if given["symmetry_augmentation"] and given["gru"] is not None:
        yield "symmetry_augmentation = true contradicts gru, whose memory has no mirror image; leave one out"
    if given["normalize_advantage"] and given["batch_size"] == 1:
        yield "batch_size = 1 contradicts normalize_advantage = true: one sample has no spread"
