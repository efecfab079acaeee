"""Markup that moves: the page shows one frame without a script, and its script shows the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup, escape

TEXT = ""
"""This name stands for an element's content among its attributes."""


@dataclass
class Animation:
    """Collects which attribute of which element changes how.

    Attributes:
        num_frames: Number of values that each moving attribute has.
        tracks: Each moving attribute as ``[number of the element, attribute, values]``; None among the values
            repeats that of the frame before.
        num_elements: Number of elements that move so far.
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
    ) -> Markup:
        """Make an element, as it is at the last frame.

        Args:
            name: Tag.
            fixed: Attributes that stay.
            moving: Values over frames, of attributes or of the content (``TEXT``).
            content: Markup inside, where that is no text that moves.
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
        return Markup(f"<{name}{attributes}>{content}</{name}>")

    def data(self, frame_ms: int) -> dict[str, Any]:
        """What the page's script needs; it shows each frame for ``frame_ms`` milliseconds."""
        return {"frames": self.num_frames, "ms": frame_ms, "tracks": self.tracks}


def _changes(values: Sequence[str]) -> list[str | None]:
    return [value if k == 0 or value != values[k - 1] else None for k, value in enumerate(values)]
