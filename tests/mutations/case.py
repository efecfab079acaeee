"""One case: what is tried, with which files."""

from __future__ import annotations

from typing import NamedTuple

FLAGS = ("--trainer.fast_dev_run", "100", "--seed_everything", "0", "--trainer.accelerator", "cpu")
"""Nothing is written, and training ends after 100 env steps: three batches of most configurations."""


class Case(NamedTuple):
    """A change of a configuration, the files that hold it, and words of which a refusal must hold one."""

    what: str
    files: dict[str, str]
    names: tuple[str, ...]

    @property
    def argv(self) -> list[str]:
        """The command line."""
        configs = [token for name in sorted(self.files) for token in ("--config", name)]
        return ["fit", *configs, *FLAGS]
