"""Statistics of evaluation episodes."""

from __future__ import annotations

import math

from lit_rl import metrics
from lit_rl.ranks import Ranks
from lit_rl.types import IS_SUCCESS, EvalEpisodes

EvalResult = dict[str, float | int]
"""``return_mean``, ``_std``, ``_min``, ``_max``, ``length_mean``, ``episodes``, ``env_steps``, and
``success_rate`` where the environment reports success."""

_NAMES = {
    metrics.EVAL_RETURN: "return_mean",
    metrics.EVAL_RETURN_STD: "return_std",
    metrics.EVAL_RETURN_MIN: "return_min",
    metrics.EVAL_RETURN_MAX: "return_max",
    metrics.EVAL_LENGTH: "length_mean",
    metrics.EVAL_EPISODES: "episodes",
    metrics.EVAL_SUCCESS: "success_rate",
}


def summarize(
    batch: EvalEpisodes, ranks: Ranks, env_steps: int
) -> tuple[EvalResult | None, dict[str, float]]:
    """Summarise the evaluation episodes of all ranks; standard deviations are those of a sample.

    Args:
        batch: The episodes of this rank; every rank plays equally many.
        ranks: The processes whose episodes count; each of them must call.
        env_steps: Env steps for which the policy was trained.

    Returns:
        The statistics, and everything to log under the names of ``metrics.py``; None, and nothing, where a
        signal broke off the evaluation of any rank.
    """
    episodes = batch["episodes"]
    is_broken_off = episodes["episode_return"].new_tensor([float(batch.get("is_broken_off", False))])
    if ranks.join(is_broken_off).any():
        return None, {}
    returns, lengths = ranks.join(episodes["episode_return"]), ranks.join(episodes["episode_length"])
    result: EvalResult = {
        "return_mean": returns.mean().item(),
        "return_std": returns.std().item() if len(returns) > 1 else 0.0,
        "return_min": returns.min().item(),
        "return_max": returns.max().item(),
        "length_mean": lengths.mean().item(),
        "episodes": len(returns),
        "env_steps": env_steps,
    }
    success = episodes["last_values"].get(IS_SUCCESS)
    if success is not None:
        # an episode that ends without a word about success was none
        result["success_rate"] = ranks.join(success.nan_to_num(0.0)).mean().item()
    reported = {
        f"{metrics.EVAL_ENV_PREFIX}{name}": ranks.join(value).nanmean().item()
        for name, value in episodes["values"].items()
    }
    values = {name: float(result[key]) for name, key in _NAMES.items() if key in result}
    return result, values | {name: value for name, value in reported.items() if math.isfinite(value)}
