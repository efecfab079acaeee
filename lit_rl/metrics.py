"""Every logged name with its definition and unit. Learners, callbacks and exports take their names from here.

The step axis of every logger is ``env_steps``: calls of ``VectorEnv.step`` times environments, summed over
ranks (under next-step autoreset the call that only resets an environment counts as well).
"""

from __future__ import annotations

from typing import NamedTuple


class Metric(NamedTuple):
    """Definition of one logged value.

    Attributes:
        definition: What is computed, over which data.
        unit: Unit of the value; "" when it has none.
    """

    definition: str
    unit: str = ""


LOSS_POLICY = "loss/policy"
LOSS_VALUE = "loss/value"
LOSS_CRITIC = "loss/critic"
LOSS_TEMPERATURE = "loss/temperature"
ENTROPY = "policy/entropy"
KL = "policy/kl"
CLIP_FRACTION = "policy/clip_fraction"
LEARNING_RATE = "policy/learning_rate"
TEMPERATURE = "policy/temperature"
EXPLAINED_VARIANCE = "value/explained_variance"
Q_MEAN = "value/q_mean"
EPOCHS = "update/epochs"
GRADIENT_STEPS = "update/gradient_steps"
POLICY_VERSION = "update/policy_version"
UPDATE_SECONDS = "time/update_s"
COLLECT_SECONDS = "time/collect_s"
STEPS_PER_SECOND = "time/env_steps_per_s"
EPISODE_RETURN = "episode/return_mean"
EPISODE_LENGTH = "episode/length_mean"
EPISODES = "episode/count"
ENV_PREFIX = "env/"
EVAL_RETURN = "eval/return_mean"
EVAL_RETURN_STD = "eval/return_std"
EVAL_LENGTH = "eval/length_mean"
EVAL_EPISODES = "eval/episodes"

METRICS: dict[str, Metric] = {
    LOSS_POLICY: Metric("PPO: Schulman 2017, eq. 7; SAC: Haarnoja 2018, eq. 7; mean over minibatches"),
    LOSS_VALUE: Metric("Squared error of PPO's value against the return, without value_coef; mean"),
    LOSS_CRITIC: Metric("Sum over critics of the squared error against the soft target; mean"),
    LOSS_TEMPERATURE: Metric("-alpha * (mean log-probability + target entropy); mean over minibatches"),
    ENTROPY: Metric("Entropy of the policy: PPO before the update, SAC the mean of -log-probability", "nat"),
    KL: Metric("Mean of (r - 1) - log r over the last epoch, r the probability ratio (Schulman 2020)", "nat"),
    CLIP_FRACTION: Metric("Share of the last epoch's samples whose ratio lies outside 1 +- clip"),
    LEARNING_RATE: Metric("Learning rate of the update just done"),
    TEMPERATURE: Metric("SAC's entropy temperature alpha after the update"),
    EXPLAINED_VARIANCE: Metric("1 - Var(return - value) / Var(return) on the rollout, before the update"),
    Q_MEAN: Metric("Mean over critics and minibatches of Q(s, a) on replayed transitions"),
    EPOCHS: Metric("Epochs of the update that were done; fewer than asked when target_kl stopped it"),
    GRADIENT_STEPS: Metric("Optimizer steps since the start of training (of the policy)"),
    POLICY_VERSION: Metric("Batches trained on since the start of training"),
    UPDATE_SECONDS: Metric("Wall time of training_step", "s"),
    COLLECT_SECONDS: Metric("Wall time of collecting the batch", "s"),
    STEPS_PER_SECOND: Metric("Env steps of all ranks over the wall time, since the last batch", "1/s"),
    EPISODE_RETURN: Metric("Mean undiscounted return of the last 100 training episodes of each rank"),
    EPISODE_LENGTH: Metric("Mean length of the same episodes", "env steps"),
    EPISODES: Metric("Training episodes that ended since the start of training, over all ranks"),
    ENV_PREFIX: Metric("Prefix of the values the data module records (`record`); mean over the batch"),
    EVAL_RETURN: Metric("Mean undiscounted return of the greedy policy on the evaluation environments"),
    EVAL_RETURN_STD: Metric("Sample standard deviation of those returns"),
    EVAL_LENGTH: Metric("Mean length of those episodes", "env steps"),
    EVAL_EPISODES: Metric("Number of those episodes"),
}  # fmt: skip


def markdown_table() -> str:
    """All names as the table of the README."""
    rows = [f"| `{name}` | {metric.definition} | {metric.unit} |" for name, metric in METRICS.items()]
    return "\n".join(["| name | definition | unit |", "|---|---|---|", *rows])


if __name__ == "__main__":
    print(markdown_table())  # noqa: T201  # it is what the command is for
