"""What Stable-Baselines3 and CleanRL call the arguments of lit_rl, where they call them differently.

The names were read in Stable-Baselines3 2.7 (``PPO``, ``SAC``, ``TD3``) and in the scripts ``ppo.py``,
``ppo_continuous_action.py``, ``sac_continuous_action.py`` and ``td3_continuous_action.py`` of CleanRL.
"""

from __future__ import annotations

from typing import NamedTuple


class Names(NamedTuple):
    """Names of one argument elsewhere; empty where there is none, or where it is equal."""

    sb3: str = ""
    cleanrl: str = ""

    def __str__(self) -> str:
        """Write both libraries with their names: ``SB3: n_epochs; CleanRL: num_steps``."""
        return "; ".join(f"{lib}: {name}" for lib, name in zip(("SB3", "CleanRL"), self, strict=True) if name)


OTHER_NAMES: dict[str, dict[str, Names]] = {
    "PPO": {
        "hidden": Names("policy_kwargs net_arch"),
        "activation": Names("policy_kwargs activation_fn"),
        "anneal_env_steps": Names("learning_rate as a schedule", "anneal_lr"),
        "batch_size": Names("", "num_minibatches (how many, not how large)"),
        "update_epochs": Names("n_epochs"),
        "clip": Names("clip_range", "clip_coef"),
        "clip_value": Names("clip_range_vf", "clip_vloss"),
        "value_coef": Names("vf_coef", "vf_coef"),
        "entropy_coef": Names("ent_coef", "ent_coef"),
        "normalize_advantage": Names("", "norm_adv"),
        "initial_std": Names("policy_kwargs log_std_init (its logarithm)"),
        "encoder": Names("policy_kwargs features_extractor_class"),
        "share_encoder": Names("policy_kwargs share_features_extractor"),
    },
    "SAC": {
        "hidden": Names("policy_kwargs net_arch"),
        "learning_rate": Names("", "policy_lr and q_lr"),
        "num_critics": Names("policy_kwargs n_critics"),
        "initial_temperature": Names("ent_coef", "alpha"),
        "learn_temperature": Names("ent_coef auto", "autotune"),
        "critic_actor_ratio": Names("", "policy_frequency"),
        "encoder": Names("policy_kwargs features_extractor_class"),
    },
    "TD3": {
        "hidden": Names("policy_kwargs net_arch"),
        "policy_delay": Names("", "policy_frequency"),
        "target_policy_noise": Names("", "policy_noise"),
        "target_noise_clip": Names("", "noise_clip"),
        "exploration_noise": Names("action_noise"),
        "encoder": Names("policy_kwargs features_extractor_class"),
    },
    "RolloutDataModule": {
        "env": Names("", "env_id"),
        "num_envs": Names("make_vec_env n_envs"),
        "rollout_steps": Names("n_steps", "num_steps"),
    },
    "ReplayDataModule": {
        "env": Names("", "env_id"),
        "num_envs": Names("make_vec_env n_envs"),
        "capacity": Names("buffer_size", "buffer_size"),
        "warmup_steps": Names("learning_starts", "learning_starts"),
        "steps_per_batch": Names("train_freq"),
        "updates_per_step": Names("gradient_steps"),
    },
}
"""Names elsewhere by class and argument; a data module is a part of the learner there."""
