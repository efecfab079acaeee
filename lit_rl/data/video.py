"""Video of an evaluation episode: GIF by Pillow, MP4 by imageio (the ``video`` extra)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from lit_rl.files import replacing

_log = logging.getLogger("lit_rl")

MAX_FRAMES = 3000
"""Frames that are kept at most, all in memory: 100 seconds at 30 frames per second."""


class VideoWriter:
    """Collects frames of environment 0 until its first episode ends, then writes them.

    Args:
        env: A vector environment made for rendering; it must offer ``frame()``.
        path: ``.gif`` or ``.mp4``.

    Raises:
        ValueError: Another file ending, or an environment that cannot be rendered.
    """

    def __init__(self, env: Any, path: Path) -> None:
        if path.suffix not in (".gif", ".mp4"):
            raise ValueError(f"video must end in .gif or .mp4, got {path}")
        if not hasattr(env, "frame"):
            raise ValueError(
                f"video needs an environment that renders frames; {env.spec.name} has no frame()"
            )
        self._env, self._path = env, path
        self._frames: list[np.ndarray] = []

    def on_step(self, running: bool) -> None:
        """Keep one frame while the first episode runs and there is room."""
        if running and not self.is_full:
            self._frames.append(np.asarray(self._env.frame()))

    @property
    def is_full(self) -> bool:
        """Whether no more frames are kept: the episode is longer than a film may be."""
        return len(self._frames) >= MAX_FRAMES

    def save(self, frames_per_second: int = 30) -> None:
        """Write all frames and create missing folders."""
        if self.is_full:
            _log.info("%s shows the first %d steps of an episode that is longer", self._path, MAX_FRAMES)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.suffix == ".gif":
            from PIL import Image

            images = [Image.fromarray(frame) for frame in self._frames]
            with replacing(self._path) as beside:
                images[0].save(
                    beside,
                    format="GIF",
                    save_all=True,
                    append_images=images[1:],
                    duration=1000 // frames_per_second,
                    loop=0,
                )
            return
        try:
            import imageio

            imageio.mimsave(self._path, list[Any](self._frames), fps=frames_per_second)  # pyright: ignore[reportCallIssue]
        except (ImportError, ValueError) as error:
            raise ValueError(
                f"writing {self._path} needs a codec: pip install 'lit-rl[video]', or choose a .gif ({error})"
            ) from error
