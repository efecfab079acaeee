"""What the returns of evaluation episodes say."""

from __future__ import annotations

from torch import Tensor

from lit_rl import metrics

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


def summarize(returns: Tensor, lengths: Tensor, success: Tensor | None, env_steps: int) -> EvalResult:
    """Statistics of K episodes, each argument ``(K,)`` float64; the standard deviation is the sample's."""
    result: EvalResult = {
        "return_mean": returns.mean().item(),
        "return_std": returns.std().item() if len(returns) > 1 else 0.0,
        "return_min": returns.min().item(),
        "return_max": returns.max().item(),
        "length_mean": lengths.mean().item(),
        "episodes": len(returns),
        "env_steps": env_steps,
    }
    if success is not None:
        result["success_rate"] = success.mean().item()
    return result


def logged(result: EvalResult) -> dict[str, float]:
    """The same under the names of ``metrics.py``."""
    return {name: float(result[key]) for name, key in _NAMES.items() if key in result}
