"""Weights and normalizers of a checkpoint, with which another run begins."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lit_rl.algos.names import is_same, public_name

log = logging.getLogger("lit_rl")

COUNTERS = "_extra_state"
"""Key under which a ``state_dict`` holds the counters of a learner."""

NAMED = 8
"""Tensors that an error names at most, so that it stays a line."""


class Weights(NamedTuple):
    """Parameters and running statistics of a learner, read from a checkpoint.

    Attributes:
        path: The checkpoint, for messages.
        env_steps: Env steps after which it was saved.
        tensors: Parameters and buffers by their names; they stay on disk until they are used.
        is_partial: Whether what does not fit is left out, in place of an error.
    """

    path: Path
    env_steps: int
    tensors: dict[str, Tensor]
    is_partial: bool

    @staticmethod
    def read(path: str | Path, learner: type, is_partial: bool = False) -> Weights:
        """Read the weights of ``path``, as tensors and plain types: no class is looked up by a name in it.

        Args:
            path: A checkpoint of the same learner, or of one that ``learner`` is a subclass of.
            learner: Class of the learner that they are for.
            is_partial: Whether :meth:`give` leaves out what does not fit.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is no checkpoint of lit_rl, or holds another learner.
        """
        path = Path(path)
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            state, name = content["state_dict"], content["lit_rl"]["class_path"]
            env_steps = int(state.get(COUNTERS, {}).get("env_steps", 0))
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(
                f"{path} is not a checkpoint of lit_rl, or it is truncated ({type(error).__name__})"
            ) from error
        if not any(is_same(public_name(cls), name) for cls in learner.__mro__):
            raise ValueError(
                f"the weights of {path} are those of a {name}, this learner is a {public_name(learner)}; "
                "give a checkpoint of the same class"
            )
        tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
        return Weights(path, env_steps, tensors, is_partial)

    def give(self, learner: nn.Module) -> None:
        """Copy the weights into ``learner``, whose networks are built, and say so in the log.

        Raises:
            ValueError: A tensor is missing on either side or has another shape, and not ``is_partial``; or
                none fits at all. The message names the tensors.
        """
        given = dict(self.tensors)
        for rename in learner._load_state_dict_pre_hooks.values():  # parts of older checkpoints
            rename(given, "", {}, True, [], [], [])
        own = {key: value for key, value in learner.state_dict().items() if isinstance(value, Tensor)}
        fitting = {key: value for key, value in given.items() if key in own and value.shape == own[key].shape}
        unfit = [_describe(key, own, given) for key in {**own, **given} if key not in fitting]
        if not fitting or (unfit and not self.is_partial):
            more = [f"and {len(unfit) - NAMED} more"] if len(unfit) > NAMED else []
            named = "; ".join(unfit[:NAMED] + more)
            raise ValueError(
                f"the weights of {self.path} do not fit this learner: {named}. Give the networks the "
                "arguments that they were trained with, or ask for what fits (partial)"
            )
        learner.load_state_dict(fitting, strict=False)
        log.info(
            "weights of %s (%d env steps): %d of %d tensors taken; counters start at 0, optimizers afresh",
            self.path, self.env_steps, len(fitting), len(own),
        )  # fmt: skip
        for line in unfit:
            log.info("left out: %s", line)


def _describe(key: str, own: dict[str, Tensor], given: dict[str, Tensor]) -> str:
    if key not in given:
        return f"{key} is not in the checkpoint"
    if key not in own:
        return f"{key} {tuple(given[key].shape)} is not in this learner"
    return f"{key} is {tuple(given[key].shape)} in the checkpoint and {tuple(own[key].shape)} here"
