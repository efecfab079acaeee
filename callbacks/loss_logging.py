"""Loss recording for code that has no Lightning trainer: start, log, stop.

    start_loss_logging(experiment_name="my_experiment")
    for step in range(steps):
        log_network_loss("ppo", step, {"actor_loss": actor_loss, "critic_loss": critic_loss})
    stop_loss_logging()

One logger at a time. Without one the ``log_*`` functions record nothing, and say so once: code that logs
its losses runs unchanged with the recording switched off. Losses may be numbers, arrays or tensors of one
element; tensors on an accelerator are fetched later, by another thread. ``NetworkLossLogger`` says what is
written.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from lit_rl.callbacks.recorder.classify import classify
from lit_rl.callbacks.recorder.client import Recorder, start_recorder
from lit_rl.callbacks.recorder.settings import (
    DEFAULT_NETWORKS,
    QUEUE_SIZE,
    UPDATE_INTERVAL_S,
    Settings,
)
from lit_rl.loss_log import LOG_DIR

_log = logging.getLogger("lit_rl")

Function = TypeVar("Function", bound=Callable[..., Any])


class _Current:
    """Holds the logger of this process, and whether its absence was told."""

    recorder: Recorder | None = None
    has_warned = False


def start_loss_logging(
    experiment_name: str = "experiment",
    log_dir: str | Path = LOG_DIR,
    networks: Sequence[str] = DEFAULT_NETWORKS,
    update_interval: float = UPDATE_INTERVAL_S,
    queue_size: int = QUEUE_SIZE,
) -> Recorder:
    """Start a recorder process that writes into ``<log_dir>/<experiment_name>_loss_log``.

    A directory that exists already is left alone: the new one gets the suffix ``-2``, ``-3`` and so on. When
    none can be made, a warning says so and losses are only counted.

    Args:
        experiment_name: Name without slashes.
        log_dir: Folder of all loss logs.
        networks: Networks to expect: one without a loss is listed as missing. Others are recorded as well.
        update_interval: Seconds between two figures. More costs the machine less.
        queue_size: Rows that may wait; more are dropped and counted.

    Returns:
        The recorder; its ``totals`` are the rows offered, written, dropped and invalid.

    Raises:
        RuntimeError: A logger is running already.
        ValueError: An argument is outside its range.
    """
    if is_loss_logger_alive():
        raise RuntimeError(
            f"start_loss_logging expects no running logger, but one writes to {get_loss_log_directory()}; "
            "call stop_loss_logging() first"
        )
    names = tuple(name.lower() for name in networks)
    settings = Settings(
        experiment_name, str(log_dir), names, update_interval=update_interval, queue_size=queue_size
    )
    _Current.recorder, _Current.has_warned = start_recorder(settings), False
    return _Current.recorder


def stop_loss_logging() -> dict[str, int]:
    """Wait until all rows are on disk, a few seconds at most.

    The process then draws its last figure and ends by itself.

    Returns:
        Rows offered, written, dropped and invalid; empty when no logger was started.
    """
    recorder, _Current.recorder = _Current.recorder, None
    return {} if recorder is None else recorder.close()


def is_loss_logger_alive() -> bool:
    """Tell whether a logger was started and records; this never starts one."""
    return _Current.recorder is not None and _Current.recorder.is_alive


def get_loss_log_directory() -> Path | None:
    """Absolute directory of the running logger, None when none runs; this never starts one."""
    directory = None if _Current.recorder is None else _Current.recorder.directory
    return None if directory is None else directory.absolute()


def log_network_loss(
    network: str, step: int, losses: Mapping[str, Any], timestamp: float | None = None
) -> bool:
    """Record the losses of a network at a step, without waiting.

    Args:
        network: Name, also of the files: ``<network>_losses.csv``.
        step: Training step at which these are the losses.
        losses: Name to number. NaN and infinities are recorded and counted.
        timestamp: Seconds since 1970; None takes the time of the call.

    Returns:
        Whether the row was taken.
    """
    if _Current.recorder is not None:
        return _Current.recorder.record(network, step, losses, timestamp)
    if not _Current.has_warned:
        _Current.has_warned = True
        _log.warning("log_network_loss: no logger runs, losses are not recorded; call start_loss_logging()")
    return False


def log_losses(step: int, losses: Mapping[str, Any], algorithm: str | None = None) -> bool:
    """Record losses of several networks, each found by its name (``recorder.classify``).

    Args:
        step: Training step at which these are the losses.
        losses: Name to number, such as ``{"actor_loss": 0.1, "attn_loss": 0.3}``.
        algorithm: Whose ``actor_loss`` and ``critic_loss`` these are, such as ``sac``.

    Returns:
        Whether all rows were taken.
    """
    networks: dict[str, dict[str, Any]] = {}
    for name, value in losses.items():
        networks.setdefault(classify(name, algorithm), {})[name] = value
    taken = [log_network_loss(network, step, group) for network, group in networks.items()]
    return all(taken)


def log_attention_loss(step: int, losses: Mapping[str, Any], timestamp: float | None = None) -> bool:
    """Call ``log_network_loss("attention", ...)``."""
    return log_network_loss("attention", step, losses, timestamp)


def log_ppo_loss(step: int, losses: Mapping[str, Any], timestamp: float | None = None) -> bool:
    """Call ``log_network_loss("ppo", ...)``."""
    return log_network_loss("ppo", step, losses, timestamp)


def log_gnn_loss(step: int, losses: Mapping[str, Any], timestamp: float | None = None) -> bool:
    """Call ``log_network_loss("gnn", ...)``."""
    return log_network_loss("gnn", step, losses, timestamp)


def log_custom_network_loss(
    network: str, step: int, losses: Mapping[str, Any], timestamp: float | None = None
) -> bool:
    """Call ``log_network_loss``; earlier code knows it by this name."""
    return log_network_loss(network, step, losses, timestamp)


def auto_log_loss(network: str, step_param: str = "step") -> Callable[[Function], Function]:
    """Decorator that records what a function returns: a dict of losses, or one number, as ``<network>_loss``.

    Works for ordinary and ``async`` functions, whose result it hands on unchanged.

    Args:
        network: Whose losses they are.
        step_param: Parameter of the function that is the step, however the caller passes it.

    Raises:
        TypeError: The function has no such parameter.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        if step_param not in signature.parameters:
            raise TypeError(
                f"auto_log_loss expects {function.__qualname__} to have a parameter {step_param!r}, it has "
                f"({', '.join(signature.parameters)}); name the one that is the step by step_param"
            )

        def log(result: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            losses = result if isinstance(result, Mapping) else {f"{network}_loss": result}
            log_network_loss(network, bound.arguments[step_param], losses)

        @functools.wraps(function)
        def logged(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            log(result, args, kwargs)
            return result

        @functools.wraps(function)
        async def logged_async(*args: Any, **kwargs: Any) -> Any:
            result = await function(*args, **kwargs)
            log(result, args, kwargs)
            return result

        wrapper: Any = logged_async if inspect.iscoroutinefunction(function) else logged
        return wrapper

    return decorate


class LossLoggingContext:
    """``with LossLoggingContext("my_experiment"):`` starts a logger and stops it.

    Args:
        experiment_name: First argument of :func:`start_loss_logging`.
        **kwargs: Its further arguments.
    """

    def __init__(self, experiment_name: str = "experiment", **kwargs: Any) -> None:
        self._experiment_name, self._kwargs = experiment_name, kwargs

    def __enter__(self) -> Recorder:
        """Start the logger."""
        return start_loss_logging(self._experiment_name, **self._kwargs)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the logger."""
        stop_loss_logging()
