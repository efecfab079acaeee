"""All parameters of a network as one flat tensor, and the Adam that trains it.

In a small gradient step the number of operations is what costs: clipping, averaging over ranks, the step and
the blending of targets are one operation each on a flat tensor. Axes: P parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from lit_rl.ranks import Ranks

Parameters: TypeAlias = dict[str, Tensor]
"""Parameters by their names in the module, as ``torch.func.functional_call`` takes them."""

Loss: TypeAlias = Callable[..., tuple[Tensor, Any]]
"""``loss(parameters, *inputs, *fixed)`` returns a scalar loss and anything more, without gradient.
``parameters`` are to be used in place of the module's own, and each of ``fixed`` in place of those of another
network that the loss uses without training it; None means its own."""


class FlatParameters:
    """Parameters of a module as views of one flat tensor, and their gradients as views of another.

    The module keeps its own names, so ``state_dict`` is unchanged. Build it after the module is on its
    device.

    Args:
        module: The module whose parameters become flat.
        names: Names of the parameters that become flat, in this order; None takes all that are trained.

    Attributes:
        names: Names of the parameters in the order of the flat tensor.
        tensor: Parameter of shape (P,) to give to the optimizer.
        values: Its values (P,), which can be written to without a gradient.
        grad: Gradient of shape (P,), filled by :meth:`backward`.
    """

    def __init__(self, module: nn.Module, names: Sequence[str] | None = None) -> None:
        self._module = module
        named = dict(module.named_parameters())
        self.names = [name for name, p in named.items() if p.requires_grad] if names is None else list(names)
        self._parameters = [named[name] for name in self.names]
        flat = torch.cat([p.detach().reshape(-1) for p in self._parameters])
        self.tensor = nn.Parameter(flat)
        self.values = self.tensor.data
        self.grad = torch.zeros_like(flat)
        self._grads = list(self.unflatten(self.grad).values())
        for parameter, view in zip(self._parameters, self.unflatten(self.values).values(), strict=True):
            parameter.data = view

    def backward(self, loss: Tensor) -> None:
        """Compute the gradient of ``loss``, and store it in :attr:`grad`.

        Gradients are pointed at the flat tensor here, and not once and for all, because Lightning sets each
        of them to None when a fit starts; whoever forgot it would train nothing.

        Raises:
            RuntimeError: The module's parameters were exchanged (say, moved to another device) since they
                became flat.
        """
        first, last = self._parameters[0], self._parameters[-1]
        if first.data_ptr() != self.tensor.data_ptr():
            raise RuntimeError(
                f"the parameters of {type(self._module).__name__} were moved or replaced after their "
                "optimizer was made, which would train nothing; move the module first"
            )
        if first.grad is not self._grads[0] or last.grad is not self._grads[-1]:
            for parameter, grad in zip(self._parameters, self._grads, strict=True):
                parameter.grad = grad
        self.grad.zero_()
        loss.backward()

    def unflatten(self, flat: Tensor) -> Parameters:
        """Return views of ``flat`` (P,) in the shapes of the parameters, by their names."""
        views, offset = {}, 0
        for name, parameter in zip(self.names, self._parameters, strict=True):
            count = parameter.numel()
            views[name] = flat[offset : offset + count].view(parameter.shape)
            offset += count
        return views

    def blend_(self, other: FlatParameters, share: float) -> None:
        """Replace a share of these parameters by those of ``other``: x <- (1 - share) * x + share * other."""
        self.values.lerp_(other.values, share)

    def requires_grad_(self, value: bool) -> None:
        """Freeze or free the parameters: a frozen critic saves its weight gradients in the policy loss."""
        for parameter in self._parameters:
            parameter.requires_grad_(value)

    @property
    def is_frozen(self) -> bool:
        """Whether gradients of the parameters are not computed, as those of targets."""
        return not self._parameters[0].requires_grad


@contextmanager
def frozen(networks: Sequence[FlatParameters]) -> Iterator[None]:
    """Freeze ``networks`` for as long as the context lasts; what was frozen before stays frozen."""
    freed = [flat for flat in networks if not flat.is_frozen]
    for flat in freed:
        flat.requires_grad_(False)
    try:
        yield
    finally:  # an update that breaks off must not leave them frozen
        for flat in freed:
            flat.requires_grad_(True)


_NOTHING = nullcontext()
"""Stands in for :func:`frozen` where nothing is to be frozen: making that context costs in a small step."""


def call_with(parameters: Parameters | None, module: nn.Module, *inputs: Any) -> Any:
    """Call ``module`` with ``inputs``, and with ``parameters`` in place of its own unless they are None."""
    return module(*inputs) if parameters is None else torch.func.functional_call(module, parameters, inputs)


class FlatAdam(torch.optim.Adam):
    """The fused Adam of PyTorch over all parameters of a module as one flat tensor.

    State, hyper-parameters and numbers are those of ``torch.optim.Adam(fused=True)``, to the bit.

    Args:
        module: The module that is trained; it must be on its device.
        learning_rate: Step size.
        epsilon: Added to the root of the second moment.
        max_grad_norm: Largest norm of the gradient; None does not clip.
        ranks: The processes over which gradients are averaged.
        compile: Whether gradients are computed by one compiled graph for each loss.
    """

    def __init__(
        self,
        module: nn.Module,
        learning_rate: float,
        epsilon: float = 1e-8,
        max_grad_norm: float | None = None,
        ranks: Ranks | None = None,
        compile: bool = False,
    ) -> None:
        self.flat = FlatParameters(module)
        self.is_compiled = compile
        self._max_grad_norm, self._ranks = max_grad_norm, ranks or Ranks()
        self._compiled: dict[Loss, Any] = {}
        super().__init__([self.flat.tensor], learning_rate, eps=epsilon, fused=True)

    def minimize(self, loss: Tensor) -> None:
        """Take one gradient step down a scalar ``loss``."""
        self.flat.backward(loss)
        self._follow(self.flat.grad, self._max_grad_norm)

    def minimize_fn(self, loss_fn: Loss, *inputs: Any, fixed: Sequence[FlatParameters] = ()) -> Any:
        """Take one gradient step down ``loss_fn(parameters, *inputs, *fixed)``, compiled where asked for.

        Args:
            loss_fn: The loss.
            inputs: What it is given.
            fixed: Other networks that the loss uses (critics, targets), the same ones at every step. They
                are not trained by it: no gradient of their parameters is computed.

        Returns:
            What the function returned beside the loss.
        """
        if not self.is_compiled:
            with frozen(fixed) if fixed else _NOTHING:
                loss, more = loss_fn(None, *inputs, *(None for _ in fixed))
                self.minimize(loss)
            return more
        is_alone, clip = self._ranks.size == 1, self._max_grad_norm
        if loss_fn not in self._compiled:  # over several ranks the mean gradient is clipped, outside
            self._compiled[loss_fn] = compile_gradient(loss_fn, self.flat, clip if is_alone else None, fixed)
        constants = [flat.tensor.detach() for flat in fixed]
        grad, more = self._compiled[loss_fn](self.flat.tensor.detach(), constants, *inputs)
        self._follow(grad, None if is_alone else clip)
        return more

    def _follow(self, grad_P: Tensor, clip: float | None) -> None:
        grad_P = self._ranks.mean(grad_P)
        if clip is not None:
            grad_P.mul_(clip_factor(grad_P, clip))
        state = self.state[self.flat.tensor]
        if state:
            self._advance(self.flat.values, grad_P, state)
        else:
            self.flat.tensor.grad = grad_P
            self.step()  # PyTorch creates the state
            self.flat.tensor.grad = None

    def _advance(self, values_P: Tensor, grad_P: Tensor, state: dict[str, Tensor]) -> None:
        """Step as the parent class does, but without its bookkeeping: a tenth of a small gradient step.

        The operator has a private name. ``tests/benchmarks/bench_adam.py`` prints how much slower runs are
        with PyTorch's public function ``torch.optim.adam.adam`` and with its class ``Adam(fused=True)``, and
        ``tests/test_flat.py`` holds the numbers equal.
        """
        group = self.param_groups[0]
        state["step"] += 1
        torch.ops.aten._fused_adam_(
            [values_P], [grad_P], [state["exp_avg"]], [state["exp_avg_sq"]], [], [state["step"]],
            amsgrad=False, lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1],
            weight_decay=group["weight_decay"], eps=group["eps"], maximize=False,
        )  # fmt: skip

    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step by the gradient of the flat tensor, which only :meth:`minimize` fills.

        Raises:
            RuntimeError: There is no such gradient.
        """
        if self.flat.tensor.grad is None:
            raise RuntimeError("FlatAdam steps by minimize(loss), not by loss.backward() and step()")
        super().step()


def descend(
    optimizer: torch.optim.Optimizer, loss: Tensor, max_grad_norm: float | None, ranks: Ranks
) -> None:
    """Take one gradient step with an ordinary optimizer down a scalar ``loss``, the same on all ranks.

    Args:
        optimizer: Any optimizer of PyTorch over parameters that are not flat.
        loss: The loss to decrease.
        max_grad_norm: Largest norm of the gradient; None does not clip.
        ranks: The processes over which the gradient is averaged.
    """
    optimizer.zero_grad()
    loss.backward()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad = ranks.mean(parameter.grad)
    if max_grad_norm is not None:
        nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    optimizer.step()


def clip_factor(grad: Tensor, max_norm: float) -> Tensor:
    """Return the factor that clips a flat gradient (P,) to a norm of ``max_norm``, without host sync."""
    return (max_norm / (torch.linalg.vector_norm(grad) + 1e-6)).clamp(max=1.0)


def compile_gradient(
    loss: Loss, flat: FlatParameters, max_grad_norm: float | None, fixed: Sequence[FlatParameters] = ()
) -> Callable[..., tuple[Tensor, Any]]:
    """Compile the gradient of ``loss`` over a flat parameter, clipped, as one graph.

    Args:
        loss: The loss of the module that became flat.
        flat: Its parameters.
        max_grad_norm: Largest norm of the gradient; None does not clip.
        fixed: Parameters of the other networks that ``loss`` uses.

    Returns:
        A function of parameters (P,), a list of the flat tensors of ``fixed``, and the inputs of ``loss``,
        which returns the gradient (P,) and what ``loss`` returned beside its value.
    """

    def of_flat(parameters_P: Tensor, constants: list[Tensor], *inputs: Any) -> tuple[Tensor, Any]:
        others = [other.unflatten(tensor) for other, tensor in zip(fixed, constants, strict=True)]
        return loss(flat.unflatten(parameters_P), *inputs, *others)

    def gradient(parameters_P: Tensor, constants: list[Tensor], *inputs: Any) -> tuple[Tensor, Any]:
        grad_P, (_, more) = torch.func.grad_and_value(of_flat, has_aux=True)(parameters_P, constants, *inputs)
        if max_grad_norm is not None:
            grad_P = grad_P * clip_factor(grad_P, max_grad_norm)
        return grad_P, more

    # torch keeps graphs by the code of a function, and would take that of another learner in this process,
    # whose coefficients are others: each gradient has code of its own
    gradient.__code__ = gradient.__code__.replace()
    # torch's own float32 tanh is slower than its decomposition on CPUs other than Intel's
    is_on_cpu = flat.tensor.device.type == "cpu"
    options: dict[str, Any] = {"cpp.use_decompose_tanh": True} if is_on_cpu else {}
    # what is not a tensor (coefficients, layout) is fixed by now: checking it at each step costs time
    options["guard_filter_fn"] = torch.compiler.keep_tensor_guards_unsafe
    return torch.compile(gradient, fullgraph=True, dynamic=False, options=options)
