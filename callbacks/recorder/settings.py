"""Settings of a loss log, which both sides know and ``config.json`` says."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from lit_rl.loss_log import LOG_DIR

DEFAULT_NETWORKS = ("attention", "ppo", "gnn", "sac", "total")
QUEUE_SIZE = 50_000
UPDATE_INTERVAL_S = 15.0


@dataclass(frozen=True)
class Settings:
    """Settings of one loss log.

    Args:
        experiment_name: First part of the directory's name, and the title of the figure.
        log_dir: Folder of the directories of all experiments.
        networks: Networks that are expected; one without a row is listed as missing. Others are recorded too.
        missing: Why an expected network may have no loss, by network.
        update_interval: Seconds between two figures and statistics.
        queue_size: Rows that may wait in the trainer; more are dropped and counted.
        step_unit: What a step is, for the axis of the figure.
        source: Where the losses come from; a column of the CSV files.
        algorithm: Name of the learner, if known.
        run_directory: Directory of the run this log belongs to, absolute; None when there is no run.
        resume_step: Step from which a resumed run goes on; None for a new run.
    """

    experiment_name: str
    log_dir: str = LOG_DIR
    networks: tuple[str, ...] = DEFAULT_NETWORKS
    missing: dict[str, str] = field(default_factory=dict)
    update_interval: float = UPDATE_INTERVAL_S
    queue_size: int = QUEUE_SIZE
    step_unit: str = "step"
    source: str = "measured"
    algorithm: str | None = None
    run_directory: str | None = None
    resume_step: int | None = None

    def __post_init__(self) -> None:
        """Check what users may get wrong.

        Raises:
            ValueError: A name is not a plain file name, or a number is not positive.
        """
        if not self.experiment_name or "/" in self.experiment_name or "\\" in self.experiment_name:
            raise ValueError(
                f"experiment_name must be a name without slashes, got {self.experiment_name!r}; "
                "the folder is set by log_dir"
            )
        for name in ("update_interval", "queue_size"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} of the loss recorder must be positive, got {getattr(self, name)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self) | {"networks": list(self.networks)}
