"""The peers of every comparison, built with the same hyper-parameters as the shipped configs.

Stable-Baselines3 is installed by the ``bench`` extra. Settings are literal here, not read from our YAML
files, so that a change of ours cannot silently change the peer.
"""

from __future__ import annotations

from typing import Any

PPO_CARTPOLE: dict[str, Any] = {  # rl-zoo3 settings of CartPole-v1
    "env": "CartPole-v1",
    "num_envs": 8,
    "steps": 100_000,
    "n_steps": 32,
    "batch_size": 256,
    "n_epochs": 20,
    "learning_rate": 1e-3,
    "clip_range": 0.2,
    "anneal": True,
    "gamma": 0.98,
    "gae_lambda": 0.8,
    "normalize": False,
}
PPO_HALFCHEETAH: dict[str, Any] = {
    "env": "HalfCheetah-v5",
    "num_envs": 8,
    "steps": 300_000,
    "n_steps": 256,
    "batch_size": 64,
    "n_epochs": 10,
    "learning_rate": 3e-4,
    "clip_range": 0.2,
    "anneal": False,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "normalize": True,
}
CLEANRL: dict[str, Any] = {  # the published defaults of CleanRL's ppo script
    "env": "CartPole-v1",
    "num_envs": 4,
    "steps": 100_000,
    "n_steps": 128,
    "batch_size": 128,
    "n_epochs": 4,
    "learning_rate": 2.5e-4,
    "clip_range": 0.2,
    "anneal": True,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "entropy_coef": 0.01,
    "clip_value": 0.2,
    "value_coef": 0.25,  # CleanRL's 0.5 weighs half of the squared error, ours weighs the squared error
}
PPO_CASES: dict[str, dict[str, Any]] = {
    "cartpole": PPO_CARTPOLE,
    "cleanrl": CLEANRL,
    "halfcheetah": PPO_HALFCHEETAH | {"normalize": False, "steps": 20 * 8 * 256},
}
"""What the benchmarks of speed run; HalfCheetah there for 20 rollouts, without normalisation."""
SAC_HALFCHEETAH: dict[str, Any] = {"env": "HalfCheetah-v5", "steps": 100_000, "learning_starts": 10_000}
SAC_WARMUP_STEPS = 1_000
"""Env steps with random actions before a benchmark of SAC's speed, outside the clock."""
MAPPO_SPREAD: dict[str, Any] = {  # simple_spread_v3 of MPE
    "env": {"N": 3, "local_ratio": 0.5, "max_cycles": 25},
    "num_envs": 32,
    "n_steps": 25,
    "hidden": 64,
    "batch_size": 200,  # env steps, with the samples of all three agents
    "n_epochs": 10,
    "learning_rate": 7e-4,
    "clip_range": 0.2,
    "gamma": 0.95,
    "gae_lambda": 0.95,
    "entropy_coef": 0.01,
    "value_coef": 1.0,
    "max_grad_norm": 10.0,
}


def sb3_ppo(settings: dict[str, Any], seed: int) -> Any:
    """Stable-Baselines3 PPO with ``settings``; normalised by ``VecNormalize`` if asked."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    env = make_vec_env(settings["env"], settings["num_envs"], seed=seed)
    if settings["normalize"]:
        env = VecNormalize(env, gamma=settings["gamma"])
    rate, clip = settings["learning_rate"], settings["clip_range"]
    anneal = settings["anneal"]
    return PPO(
        "MlpPolicy",
        env,
        n_steps=settings["n_steps"],
        batch_size=settings["batch_size"],
        n_epochs=settings["n_epochs"],
        gamma=settings["gamma"],
        gae_lambda=settings["gae_lambda"],
        learning_rate=(lambda left: rate * left) if anneal else rate,
        clip_range=(lambda left: clip * left) if anneal else clip,
        ent_coef=0.0,
        device="cpu",
        seed=seed,
    )


def sb3_sac(settings: dict[str, Any], seed: int) -> Any:
    """Stable-Baselines3 SAC at its defaults (batch 256, 2x256, one update per step) on one environment."""
    import gymnasium
    from stable_baselines3 import SAC

    env = gymnasium.make(settings["env"])
    return SAC("MlpPolicy", env, learning_starts=settings["learning_starts"], device="cpu", seed=seed)


def sb3_greedy_return(model: Any, env_id: str, episodes: int, seed: int) -> float:
    """Mean undiscounted return of ``episodes`` greedy episodes, on an environment of its own, raw rewards."""
    import gymnasium

    env = gymnasium.make(env_id)
    normalizer = model.get_vec_normalize_env()
    total = 0.0
    for episode in range(episodes):
        obs, _ = env.reset(seed=seed + episode)
        over = False
        while not over:
            seen = obs if normalizer is None else normalizer.normalize_obs(obs)
            action, _ = model.predict(seen, deterministic=True)
            obs, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            over = terminated or truncated
    env.close()
    return total / episodes
