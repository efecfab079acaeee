"""Every logged name with its definition and unit. Learners, callbacks and exports take their names from here.

The step axis of every logger is ``env_steps``: calls of ``VectorEnv.step`` times environments, summed over
ranks (under next-step autoreset the call that only resets an environment counts as well).

The lower-case names are logged by every learner. Those of the callbacks keep the spelling under which earlier
systems logged them, so that existing dashboards and scripts go on; where two spellings were in use for one
value, both are logged. A name with ``{}`` stands for one per environment, agent, skill, or reported value.
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


# Learners

LOSS_POLICY = "loss/policy"
LOSS_VALUE = "loss/value"
LOSS_CRITIC = "loss/critic"
LOSS_TEMPERATURE = "loss/temperature"
LOSS_TOTAL = "loss/total"
LOSS_ATTENTION = "loss/attention"
LOSS_GNN = "loss/gnn"
LOSS_ENCODER = "loss/encoder"
PREDICTION_OBSERVATION = "prediction/observation_error"
PREDICTION_REWARD = "prediction/reward_error"
ENTROPY = "policy/entropy"
KL = "policy/kl"
CLIP_FRACTION = "policy/clip_fraction"
LEARNING_RATE = "policy/learning_rate"
TEMPERATURE = "policy/temperature"
EXPLAINED_VARIANCE = "value/explained_variance"
Q_MEAN = "value/q_mean"
DEMONSTRATION_SHARE = "replay/demonstration_share"
EPOCHS = "update/epochs"
GRADIENT_STEPS = "update/gradient_steps"
POLICY_VERSION = "update/policy_version"
UPDATE_SECONDS = "time/update_s"
COLLECT_SECONDS = "time/collect_s"
STEPS_PER_SECOND = "time/env_steps_per_s"
LAG_RATIO = "lag/ratio_mean"
LAG_RATIO_MAX = "lag/ratio_max"
LAG_SAMPLE_SHARE = "lag/effective_share"
COLLECTOR_WAIT = "collector/wait_s"
COLLECTOR_RESTARTS = "collector/restarts"
COLLECTOR_RECLAIMED = "collector/reclaimed"
COLLECTOR_BUFFER = "collector/buffer_mib"
COLLECTOR_LAG = "collector/policy_lag"
COLLECTOR_EXPERIENCE = "collector/experience_per_s"
COLLECTOR_UPDATES = "collector/updates_per_min"
EPISODE_RETURN = "episode/return_mean"
EPISODE_LENGTH = "episode/length_mean"
EPISODES = "episode/count"
ENV_PREFIX = "env/"
EVAL_RETURN = "eval/return_mean"
EVAL_RETURN_STD = "eval/return_std"
EVAL_RETURN_MIN = "eval/return_min"
EVAL_RETURN_MAX = "eval/return_max"
EVAL_LENGTH = "eval/length_mean"
EVAL_EPISODES = "eval/episodes"
EVAL_ENV_PREFIX = "eval/env/"

# EpisodeStats: names of the enhanced reward tracking, of the actor of asynchronous SAC, of their evaluation

TRAINING_REWARD = "Training/Episode_Reward"
TRAINING_LENGTH = "Training/Episode_Length"
TRAINING_REWARD_10 = "Training/Avg_Reward_10ep"
TRAINING_REWARD_MEAN_100 = "Training/Reward_Mean_100ep"
TRAINING_REWARD_STD_100 = "Training/Reward_Std_100ep"
TRAINING_REWARD_MIN_100 = "Training/Reward_Min_100ep"
TRAINING_REWARD_MAX_100 = "Training/Reward_Max_100ep"
TRAINING_SUCCESS_100 = "Training/Success_Rate_100ep"
TRAINING_EPISODES = "Training/Episodes_Completed"
TRAINING_STEPS_PER_SECOND = "Training/Steps_Per_Second"
TRAINING_SKILL_DIVERSITY = "Training/Skill_Diversity_Recent"
TRAINING_SKILL_SWITCHES = "Training/Skill_Switches_Total"
PERFORMANCE_PREFIX = "Performance/Episode_{}"
ACTOR_REWARD = "actor/episode_reward"
ACTOR_LENGTH = "actor/episode_length"
ACTOR_EPISODES = "actor/episode_count"
ACTOR_STEPS = "actor/total_steps"
ACTOR_ACTION = "actor/avg_action_magnitude"
ACTOR_EXPLORATION = "actor/exploration_phase"
ACTOR_REWARD_10 = "actor/avg_episode_reward_10"
ACTOR_REWARD_MAX = "actor/max_episode_reward"
ACTOR_REWARD_MIN = "actor/min_episode_reward"
ACTOR_LENGTH_10 = "actor/avg_episode_length_10"
ACTOR_STEPS_PER_SECOND = "actor/steps_per_second"
ACTOR_REPLAY_SIZE = "actor/replay_buffer_size"
ACTOR_POLICY_VERSION = "actor/policy_version"
ACTOR_WAITING = "actor/waiting_chunks"
ACTOR_DROPPED = "actor/dropped_steps"
ACTOR_LATE = "actor/late_steps"
ACTOR_CONNECTIONS = "actor/connections"
EVAL_MEAN_REWARD = "eval/mean_reward"
EVAL_MEAN_LENGTH = "eval/mean_length"
EVAL_SUCCESS = "eval/success_rate"
EVAL2_MEAN = "Eval/MeanReward"
EVAL2_STD = "Eval/StdReward"
EVAL2_MIN = "Eval/MinReward"
EVAL2_MAX = "Eval/MaxReward"

# LearnerStats: names of the learner of asynchronous SAC

SAC_ACTOR_LOSS = "sac/actor_loss"
SAC_CRITIC_LOSS = "sac/critic_loss"
SAC_ENTROPY = "sac/entropy"
SAC_TEMPERATURE = "sac/temperature"
SAC_TEMPERATURE_LOSS = "sac/temperature_loss"
LEARNER_UPDATES = "learner/update_steps"
LEARNER_REPLAY_SIZE = "learner/replay_buffer_size"
LEARNER_UTD = "learner/utd"
LEARNER_LAG = "learner/policy_lag"
LEARNER_LAG_MAX = "learner/policy_lag_max"
LEARNER_ACTORS = "learner/actors"
LEARNER_LOST = "learner/lost_actors"
LEARNER_REJECTED = "learner/rejected"
LEARNER_DUPLICATES = "learner/duplicates"
LEARNER_MISSING = "learner/missing_steps"
TIMER_ACT = "timer/sample_actions"
TIMER_ENV = "timer/step_env"
TIMER_SAMPLE = "timer/sample_replay_buffer"
TIMER_TRAIN = "timer/train"
TIMER_EVAL = "timer/eval"
TIMER_TOTAL = "timer/total"

# SyncEfficiency: names of synchronous training

SYNC_UPDATES = "Sync/Total_Updates"
SYNC_VERSION = "Sync/Current_Policy_Version"
SYNC_VERSION_SHORT = "Sync/PolicyVersion"
SYNC_EFFICIENCY = "Sync/Efficiency"
SYNC_EFFICIENCY_10 = "Sync/Avg_Efficiency_10updates"
SYNC_COLLECTION = "Sync/CollectionTime"
SYNC_COLLECTION_10 = "Sync/Avg_Collection_Time_10updates"
SYNC_UPDATE = "Sync/UpdateTime"
SYNC_UPDATE_10 = "Sync/Avg_Update_Time_10updates"
SYNC_SAMPLES = "Sync/SamplesCollected"
SYNC_BATCH_SIZE = "Sync/BatchSize"
BUFFER_SAMPLES = "Buffer/SamplesCollected"
BUFFER_CONTRIBUTION = "Buffer/env_{}_contribution"

# SkillUsage: names of the first implementation of HMASD

SKILL_TEAM = "Skills/Current/TeamSkill"
SKILL_AGENT = "Skills/Current/Agent{}_Skill"
SKILL_DIVERSITY = "Skills/Current/Diversity"
SKILL_TEAM_SHARE = "Skills/EpisodeCounts/TeamSkill_{}"
SKILL_AGENT_SHARE = "Skills/EpisodeCounts/AgentSkill_{}"

# HMASD: names of synchronous training, and of the first implementation

COORDINATOR_TOTAL = "Losses/Coordinator/Total"
COORDINATOR_POLICY = "Losses/Coordinator/Policy"
COORDINATOR_VALUE = "Losses/Coordinator/Value"
COORDINATOR_KL = "policy/coordinator_kl"
DISCOVERER_TOTAL = "Losses/Discoverer/Total"
DISCOVERER_POLICY = "Losses/Discoverer/Policy"
DISCOVERER_VALUE = "Losses/Discoverer/Value"
DISCRIMINATOR_TOTAL = "Losses/Discriminator/Total"
ENTROPY_TEAM = "Entropy/Coordinator/TeamSkill_Z"
ENTROPY_AGENTS = "Entropy/Coordinator/AgentSkill_z_Average"
ENTROPY_DISCOVERER = "Entropy/Discoverer/Action"
REWARD_HIGH = "Rewards/HighLevel/K_Step_Accumulated_Mean"
REWARD_LOW = "Rewards/Intrinsic/LowLevel_Average"
REWARD_ENVIRONMENT = "Rewards/Intrinsic/Components/Environmental_Portion_Average"
REWARD_TEAM = "Rewards/Intrinsic/Components/TeamDiscriminator_Portion_Average"
REWARD_INDIVIDUAL = "Rewards/Intrinsic/Components/IndividualDiscriminator_Portion_Average"
VALUE_STATE = "ValueEstimates/Coordinator/StateValue_Mean"
VALUE_AGENTS = "ValueEstimates/Coordinator/AgentValue_Average_Mean"
VALUE_DISCOVERER = "ValueEstimates/Discoverer/Value_Mean"
INFORMATION_TEAM = "Skills/Information/Team"
INFORMATION_AGENTS = "Skills/Information/Agents"
BUFFER_HIGH = "Buffer/high_level_buffer_size"
BUFFER_LOW = "Buffer/low_level_buffer_size"
BUFFER_HIGH_TOTAL = "Buffer/high_level_samples_total"
REPLAY_ERROR = "update/replay_error"
REPLAY_ERROR_HIGH = "update/replay_error_coordinator"

# MapElites

QD_SCORE = "qd/score"
QD_COVERAGE = "qd/coverage"
QD_BEST = "qd/best"
QD_MEAN = "qd/mean"
QD_EVALUATIONS = "qd/evaluations"
QD_FAILED = "qd/failed"
QD_NEW = "qd/new"
QD_BETTER = "qd/better"
QD_CORRECTED = "qd/corrected_score"
QD_DRIFT = "qd/drift"
QD_ENTROPY = "qd/body_entropy"
QD_GENE_DISTANCE = "qd/gene_distance"

METRICS: dict[str, Metric] = {
    LOSS_POLICY: Metric("PPO: Schulman 2017, eq. 7; SAC: Haarnoja 2018, eq. 7; TD3: -Q_1(s, pi(s)); mean"),
    LOSS_VALUE: Metric("Error of PPO's value as it is trained (squared or Huber), without value_coef; mean"),
    LOSS_CRITIC: Metric("Sum over critics of the squared error against the target; mean over minibatches"),
    LOSS_TEMPERATURE: Metric("-alpha * (mean log-probability + target entropy); mean over minibatches"),
    LOSS_ATTENTION: Metric("Error of what an attention encoder, trained alone, lets one predict; mean"),
    LOSS_GNN: Metric("Error of what a graph network, trained alone, lets one predict; mean"),
    LOSS_ENCODER: Metric("Error of what another encoder, trained alone, lets one predict; mean"),
    PREDICTION_OBSERVATION: Metric("Squared error of the observation's predicted change over variance; mean"),
    PREDICTION_REWARD: Metric("Squared error of the predicted reward, over its variance; mean"),
    LOSS_TOTAL: Metric("What PPO back-propagates (Schulman 2017, eq. 9), mean; HMASD: sum over its networks"),
    ENTROPY: Metric("Entropy of the policy: PPO before the update, SAC the mean of -log-probability", "nat"),
    KL: Metric("Mean of (r - 1) - log r over the last epoch, r the probability ratio (Schulman 2020)", "nat"),
    CLIP_FRACTION: Metric("Share of the last epoch's samples whose ratio lies outside 1 +- clip"),
    LEARNING_RATE: Metric("Learning rate of the update just done"),
    TEMPERATURE: Metric("SAC's entropy temperature alpha after the update"),
    EXPLAINED_VARIANCE: Metric("1 - Var(return - value) / Var(return) on the rollout, before the update"),
    Q_MEAN: Metric("Mean over critics and minibatches of Q(s, a) on replayed transitions"),
    DEMONSTRATION_SHARE: Metric("Share of each minibatch that is drawn from the file of demonstrations"),
    EPOCHS: Metric("Epochs of the update that were done; fewer than asked when target_kl stopped it"),
    GRADIENT_STEPS: Metric("Optimizer steps so far, of the policy (TD3: of the critics)"),
    POLICY_VERSION: Metric("Batches trained on since the start of training"),
    UPDATE_SECONDS: Metric("Wall time of training_step, the device synchronised", "s"),
    COLLECT_SECONDS: Metric("Wall time of collecting the batch", "s"),
    STEPS_PER_SECOND: Metric("Env steps of all ranks over the wall time, since the last batch", "1/s"),
    LAG_RATIO: Metric("Mean of pi / mu of the actions, of the present policy and the one that acted"),
    LAG_RATIO_MAX: Metric("Largest pi / mu of the actions, of the present policy and the one that acted"),
    LAG_SAMPLE_SHARE: Metric("Effective sample size (sum w)^2 / sum w^2 of w = pi / mu, over that of w = 1"),
    COLLECTOR_WAIT: Metric("Wall time for which the learner waited for its collecting workers", "s"),
    COLLECTOR_RESTARTS: Metric("Number of workers of this rank that were lost and replaced, since the start"),
    COLLECTOR_RECLAIMED: Metric("Number of slots that were taken back from workers lost while they wrote"),
    COLLECTOR_BUFFER: Metric("Memory of the shared experience buffer of this rank", "MiB"),
    COLLECTOR_LAG: Metric("Updates of the policy since the rollout was begun; 0 is strictly on-policy"),
    COLLECTOR_EXPERIENCE: Metric("Env steps of this rank over the wall time, since the last rollout", "1/s"),
    COLLECTOR_UPDATES: Metric("Rollouts of this rank that were trained on, over the wall time", "1/min"),
    EPISODE_RETURN: Metric("Mean undiscounted return of the last 100 training episodes of each rank"),
    EPISODE_LENGTH: Metric("Mean length of the same episodes", "env steps"),
    EPISODES: Metric("Training episodes that ended since the start of training, over all ranks"),
    ENV_PREFIX: Metric("Prefix of the values the data module records (`record`); mean over the batch"),
    EVAL_RETURN: Metric("Mean undiscounted return of the evaluation episodes, played as `eval_policy` says"),
    EVAL_RETURN_STD: Metric("Sample standard deviation of those returns"),
    EVAL_RETURN_MIN: Metric("Lowest of those returns"),
    EVAL_RETURN_MAX: Metric("Highest of those returns"),
    EVAL_LENGTH: Metric("Mean length of those episodes", "env steps"),
    EVAL_EPISODES: Metric("Number of those episodes"),
    EVAL_ENV_PREFIX: Metric("Prefix of the values that are recorded; mean over those episodes"),
    TRAINING_REWARD: Metric("Undiscounted return of a training episode of this rank, when it ends"),
    TRAINING_LENGTH: Metric("Length of that episode", "env steps"),
    TRAINING_REWARD_10: Metric("Mean return of the last 10 training episodes of this rank"),
    TRAINING_REWARD_MEAN_100: Metric("Mean return of the last 100 training episodes of this rank"),
    TRAINING_REWARD_STD_100: Metric("Sample standard deviation of those returns; from 2 episodes on"),
    TRAINING_REWARD_MIN_100: Metric("Lowest of those returns"),
    TRAINING_REWARD_MAX_100: Metric("Highest of those returns"),
    TRAINING_SUCCESS_100: Metric("Share of those episodes that the environment reported as success"),
    TRAINING_EPISODES: Metric("Training episodes that ended since the start of training, over all ranks"),
    TRAINING_STEPS_PER_SECOND: Metric("Env steps of all ranks over wall time, since its last point", "1/s"),
    TRAINING_SKILL_DIVERSITY: Metric(
        "exp(entropy) of the team skills of the last 100 assignments: how many are in use, evenly", "skills"
    ),
    TRAINING_SKILL_SWITCHES: Metric("Assignments of another team skill than the one before in the episode"),
    PERFORMANCE_PREFIX: Metric("Mean over a training episode of a value the environment reports (`record`)"),
    ACTOR_REWARD: Metric("Undiscounted return of a training episode of this rank, when it ends"),
    ACTOR_LENGTH: Metric("Length of that episode", "env steps"),
    ACTOR_EPISODES: Metric("Training episodes of this rank that ended, this one included"),
    ACTOR_STEPS: Metric("Env steps at which it ended; the axis of `actor/*` in W&B", "env steps"),
    ACTOR_ACTION: Metric("Mean over that episode of the Euclidean norm of the action (box actions)"),
    ACTOR_EXPLORATION: Metric("1 when it ended within the warm-up with uniformly random actions, else 0"),
    ACTOR_REWARD_10: Metric("Mean return of the last 10 training episodes of this rank"),
    ACTOR_REWARD_MAX: Metric("Highest return of a training episode of this rank so far"),
    ACTOR_REWARD_MIN: Metric("Lowest return of a training episode of this rank so far"),
    ACTOR_LENGTH_10: Metric("Mean length of the last 10 training episodes of this rank", "env steps"),
    ACTOR_STEPS_PER_SECOND: Metric("Env steps of all ranks over wall time, since the last such point", "1/s"),
    ACTOR_REPLAY_SIZE: Metric("Transitions in the replay ring of this rank"),
    ACTOR_POLICY_VERSION: Metric("Version of the policy that an actor elsewhere acts by"),
    ACTOR_WAITING: Metric("Chunks of an actor elsewhere that its learner has not taken yet"),
    ACTOR_DROPPED: Metric("Env steps of an actor elsewhere that its learner will never have", "env steps"),
    ACTOR_LATE: Metric("Steps of an actor elsewhere that came later than half a period of its rate"),
    ACTOR_CONNECTIONS: Metric("Times that an actor elsewhere was admitted by its learner"),
    EVAL_MEAN_REWARD: Metric("Equal to `eval/return_mean`"),
    EVAL_MEAN_LENGTH: Metric("Equal to `eval/length_mean`", "env steps"),
    EVAL_SUCCESS: Metric("Share of the evaluation episodes that the environment reported as success"),
    EVAL2_MEAN: Metric("Equal to `eval/return_mean`"),
    EVAL2_STD: Metric("Equal to `eval/return_std`"),
    EVAL2_MIN: Metric("Equal to `eval/return_min`"),
    EVAL2_MAX: Metric("Equal to `eval/return_max`"),
    SAC_ACTOR_LOSS: Metric("Equal to `loss/policy`, of SAC"),
    SAC_CRITIC_LOSS: Metric("Equal to `loss/critic`"),
    SAC_ENTROPY: Metric("Equal to `policy/entropy`, of SAC", "nat"),
    SAC_TEMPERATURE: Metric("Equal to `policy/temperature`"),
    SAC_TEMPERATURE_LOSS: Metric("Equal to `loss/temperature`"),
    LEARNER_UPDATES: Metric("Equal to `update/gradient_steps`; axis of `sac/*`, `learner/*` and `timer/*`"),
    LEARNER_REPLAY_SIZE: Metric("Transitions in the replay ring of this rank"),
    LEARNER_UTD: Metric("Minibatches over the env steps of actors elsewhere, those before training left out"),
    LEARNER_LAG: Metric("Mean number of updates of the policy since actors elsewhere took it"),
    LEARNER_LAG_MAX: Metric("Largest number of updates of the policy since an actor elsewhere took it"),
    LEARNER_ACTORS: Metric("Actors elsewhere that are connected"),
    LEARNER_LOST: Metric("Connections of actors elsewhere that ended without a goodbye"),
    LEARNER_REJECTED: Metric("Frames and chunks from elsewhere that were no experience of this task"),
    LEARNER_DUPLICATES: Metric("Chunks that arrived twice, of which one was taken"),
    LEARNER_MISSING: Metric("Env steps that actors elsewhere say they had to drop", "env steps"),
    TIMER_ACT: Metric("Collection of the batch outside `VectorEnv.step`: policy and storage", "s"),
    TIMER_ENV: Metric("Collection of the batch inside `VectorEnv.step`", "s"),
    TIMER_SAMPLE: Metric("Sampling the batch's minibatches from the replay ring", "s"),
    TIMER_TRAIN: Metric("Equal to `time/update_s`", "s"),
    TIMER_EVAL: Metric("Wall time of the evaluation just done", "s"),
    TIMER_TOTAL: Metric("Wall time since the end of the batch before, evaluation left out", "s"),
    SYNC_UPDATES: Metric("Updates since the start of training: one per batch, of all networks together"),
    SYNC_VERSION: Metric("Version of the policy after the update"),
    SYNC_VERSION_SHORT: Metric("Equal to `Sync/Current_Policy_Version`"),
    SYNC_EFFICIENCY: Metric("Samples of the batch over (collection + update) seconds", "1/s"),
    SYNC_EFFICIENCY_10: Metric("Mean of the efficiencies of the last 10 updates", "1/s"),
    SYNC_COLLECTION: Metric("Wall time of collecting the batch", "s"),
    SYNC_COLLECTION_10: Metric("Mean of the collection times of the last 10 updates", "s"),
    SYNC_UPDATE: Metric("Wall time of the update, the device synchronised", "s"),
    SYNC_UPDATE_10: Metric("Mean of the update times of the last 10 updates", "s"),
    SYNC_SAMPLES: Metric("Env steps of all ranks since the update before", "env steps"),
    SYNC_BATCH_SIZE: Metric("Transitions in the batch of this rank: T * N, or minibatches times their size"),
    BUFFER_SAMPLES: Metric("Env steps of all ranks collected for the update just done", "env steps"),
    BUFFER_CONTRIBUTION: Metric("Transitions that this environment of this rank gave; every 10th update"),
    SKILL_TEAM: Metric("Team skill of environment 0 at the last step of the batch: its number, no amount"),
    SKILL_AGENT: Metric("Skill of that agent there: its number, no amount"),
    SKILL_DIVERSITY: Metric("Equal to `Training/Skill_Diversity_Recent`, at every batch", "skills"),
    SKILL_TEAM_SHARE: Metric(
        "Share of that team skill among the assignments of this rank's batch, 0 to 1; episodes span batches"
    ),
    SKILL_AGENT_SHARE: Metric("Share of that agent skill among the same assignments, all agents together"),
    COORDINATOR_TOTAL: Metric("L_h of HMASD (Yang 2023, Eq. 6), with value loss; mean over epochs"),
    COORDINATOR_POLICY: Metric("Its clipped surrogate, mean over the tokens Z, z^1 ... z^n of a decision"),
    COORDINATOR_VALUE: Metric("Its value loss, mean over the tokens, without value_coef"),
    COORDINATOR_KL: Metric("`policy/kl` of the skill coordinator, per token", "nat"),
    DISCOVERER_TOTAL: Metric("L_l of HMASD (Eq. 7), with value loss; mean over minibatches"),
    DISCOVERER_POLICY: Metric("Equal to `loss/policy`, of HMASD"),
    DISCOVERER_VALUE: Metric("Equal to `loss/value`, of HMASD"),
    DISCRIMINATOR_TOTAL: Metric("L_d of HMASD (Eq. 8): cross-entropy of both discriminators; mean"),
    ENTROPY_TEAM: Metric("Entropy of pi_h(Z) before the update, mean over decisions", "nat"),
    ENTROPY_AGENTS: Metric("Entropy of pi_h(z) before the update, mean over decisions and agents", "nat"),
    ENTROPY_DISCOVERER: Metric("Equal to `policy/entropy`, of HMASD", "nat"),
    REWARD_HIGH: Metric("Undiscounted sum of the environment's rewards over a decision's steps; mean"),
    REWARD_LOW: Metric("Reward of the skill discoverer per step and agent (Eq. 4); mean"),
    REWARD_ENVIRONMENT: Metric("lambda_e times the environment's reward, a term of it; mean"),
    REWARD_TEAM: Metric("lambda_D times log q_D(Z|s'), a term of it; mean"),
    REWARD_INDIVIDUAL: Metric("lambda_d times log q_d(z|o',Z), a term of it; mean"),
    VALUE_STATE: Metric("V_h of the team's token at decisions, before the update; mean"),
    VALUE_AGENTS: Metric("V_h of the agents' tokens at decisions, before the update; mean"),
    VALUE_DISCOVERER: Metric("V_l before the update, mean over steps and agents"),
    INFORMATION_TEAM: Metric("log q_D(Z|s') + log n_Z: 0 by guessing, log n_Z when Z is always told", "nat"),
    INFORMATION_AGENTS: Metric("log q_d(z|o',Z) + log n_z, the same for agents", "nat"),
    BUFFER_HIGH: Metric("Decisions of this rank's rollout; all are trained on"),
    BUFFER_LOW: Metric("Steps times agents of this rank's rollout; all are trained on"),
    BUFFER_HIGH_TOTAL: Metric("Decisions of this rank since the start of training"),
    REPLAY_ERROR: Metric("Largest difference of a replayed from its collected log-probability, relative > 1"),
    REPLAY_ERROR_HIGH: Metric("Largest such difference in the decisions of the skill coordinator"),
    QD_SCORE: Metric("Sum over the elites of the archive of fitness above the offset, 0.7 below zero"),
    QD_COVERAGE: Metric("Share of the cells that have an elite; some can never have one"),
    QD_BEST: Metric("Highest fitness of an elite"),
    QD_MEAN: Metric("Mean fitness of the elites"),
    QD_EVALUATIONS: Metric("Bodies measured so far, elites that were measured again left out"),
    QD_FAILED: Metric("Bodies so far that could not be measured, and were not kept"),
    QD_NEW: Metric("Bodies of the generation that are the first ones in their cells"),
    QD_BETTER: Metric("Bodies of the generation that replace a worse one"),
    QD_CORRECTED: Metric("QD score of the elites, measured on other episodes, in an empty archive"),
    QD_DRIFT: Metric("QD score after measuring all elites again with today's policy, over that before"),
    QD_ENTROPY: Metric("Entropy over cells of the bodies that are trained on", "nat"),
    QD_GENE_DISTANCE: Metric("Mean over their pairs of the root mean square difference of genes in use"),
}  # fmt: skip


def markdown_table() -> str:
    """Write all names as the table of docs/metrics.md."""
    rows = [f"| `{name}` | {metric.definition} | {metric.unit} |" for name, metric in METRICS.items()]
    return "\n".join(["| name | definition | unit |", "|---|---|---|", *rows])


if __name__ == "__main__":
    print(markdown_table())  # noqa: T201  # it is what the command is for
