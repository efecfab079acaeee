"""Markup that moves: the page shows one frame without a script, and its script shows the others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

TEXT = ""
"""Name of an element's content among its attributes."""


@dataclass
class Animation:
    """Collects which attribute of which element changes how.

    Attributes:
        num_frames: Values of each attribute that moves.
        tracks: One for each of them: ``[number of the element, attribute, values]``, where None is the value
            of the frame before.
        num_elements: Elements that move so far.
    """

    num_frames: int
    tracks: list[list[Any]] = field(default_factory=list)
    num_elements: int = 0

    def element(
        self,
        name: str,
        fixed: Mapping[str, Any],
        moving: Mapping[str, Sequence[str]] | None = None,
        content: str = "",
    ) -> str:
        """Markup of an element at the last frame.

        Args:
            name: Tag.
            fixed: Attributes that stay.
            moving: Values over frames of attributes, or of the content (``TEXT``).
            content: Markup inside.
        """
        shown = dict(fixed)
        changing = {key: values for key, values in (moving or {}).items() if len(set(values)) > 1}
        for key, values in (moving or {}).items():
            shown[key] = values[-1]
        if changing:
            shown["data-moves"] = self.num_elements
            self.tracks += [[self.num_elements, key, _changes(values)] for key, values in changing.items()]
            self.num_elements += 1
        content = escape(shown.pop(TEXT)) if TEXT in shown else content
        attributes = "".join(f' {key}="{escape(str(value))}"' for key, value in shown.items())
        return f"<{name}{attributes}>{content}</{name}>"

    def data(self, frame_ms: int) -> str:
        """What the page's script needs, as JSON that may stand inside an element ``script``."""
        content = {"frames": self.num_frames, "ms": frame_ms, "tracks": self.tracks}
        return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _changes(values: Sequence[str]) -> list[str | None]:
    return [value if k == 0 or value != values[k - 1] else None for k, value in enumerate(values)]
