"""The gradient of a minibatch over a flat parameter, clipped, as one compiled graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lit_rl.nets import clip_factor


def compile_gradient(
    loss: Callable[..., tuple[Tensor, Any]], max_grad_norm: float | None, device: torch.device
) -> Callable[..., tuple[Tensor, Any]]:
    """Compile the gradient of ``loss``.

    Args:
        loss: ``loss(flat, *rest)`` returns the loss of the parameters ``flat`` (P,), and anything more.
        max_grad_norm: Largest norm of the gradient; None does not clip.
        device: Of the parameters.

    Returns:
        A function of the same arguments, which returns the gradient (P,) and what more there was.
    """

    def gradient(flat: Tensor, *rest: Any) -> tuple[Tensor, Any]:
        grad, (_, more) = torch.func.grad_and_value(loss, has_aux=True)(flat, *rest)
        if max_grad_norm is not None:
            grad = grad * clip_factor(grad, max_grad_norm)
        return grad, more

    # torch's own float32 tanh is slower than its decomposition on CPUs other than Intel's
    options: dict[str, Any] = {"cpp.use_decompose_tanh": True} if device.type == "cpu" else {}
    # what is not a tensor (coefficients, layout) is fixed by now: checking it at each step costs time
    options["guard_filter_fn"] = torch.compiler.keep_tensor_guards_unsafe
    return torch.compile(gradient, fullgraph=True, dynamic=False, options=options)
