"""Draws the figure on a thread of its own, at most one at a time."""

from __future__ import annotations

import shutil
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

from lit_rl.files import replacing

REALTIME = "network_loss_curves_realtime.png"
STAMPED = "network_loss_curves_{:%Y%m%d_%H}.png"


class Drawing:
    """Draws figures into ``network_loss_curves_realtime.png`` and copies each to the stamp of the hour.

    Args:
        directory: Directory of the loss log.

    Attributes:
        error: Why the last figure could not be drawn or written; None when it could.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._thread: threading.Thread | None = None
        self.error: str | None = None

    def start(self, content: dict[str, Any]) -> bool:
        """Begin to draw what ``Session`` collected; returns False when the last figure is not ready yet."""
        if self._thread is not None and self._thread.is_alive():
            return False
        self._thread = threading.Thread(target=self._draw, args=(content,), daemon=True)
        self._thread.start()
        return True

    def finish(self, timeout_s: float) -> bool:
        """Wait for the running figure; whether it came to an end."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    def _draw(self, content: dict[str, Any]) -> None:
        try:
            from lit_rl.callbacks.recorder.figure import draw  # matplotlib is loaded here, beside the writing

            path = self._directory / REALTIME
            with replacing(path) as beside:
                draw(content, beside)
            stamped = self._directory / STAMPED.format(datetime.now().astimezone())
            with replacing(stamped) as beside:
                shutil.copyfile(path, beside)
            self.error = None
        except Exception as error:  # whatever it is, the rows are more important than the figure
            self.error = f"the figure could not be drawn: {type(error).__name__}: {error}"
