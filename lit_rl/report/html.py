"""``report.html``: one page about some runs, with its style, script and data inside."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from lit_rl.files import write_text
from lit_rl.report.curves import decimate
from lit_rl.report.damage import DAMAGED, reason
from lit_rl.report.markup import render
from lit_rl.report.runs import Group, group_runs, read_run
from lit_rl.report.section import Section
from lit_rl.report.sections import SECTIONS, MakeSection
from lit_rl.report.words import plural

POINTS_PER_LINE = 600
POINTS_PER_PAGE = 60_000
"""All curves together have so many points, of about 15 bytes each, so that every page stays under 2 MB."""


def write_report(runs: Sequence[Path], out: Path | None = None) -> Path:
    """Write the page about ``runs``; a reader sees the old page or the new one, never half of it.

    Args:
        runs: Run directories, finished, crashed or running.
        out: File to write; ``report.html`` in the first run when None.

    Raises:
        OSError: It cannot be written.
    """
    page = page_about(group_runs([read_run(run) for run in runs]))
    path = out or runs[0] / "report.html"
    write_text(path, page)
    return path


def page_about(groups: Sequence[Group]) -> str:
    """Return the page as text; numbers that overflow are drawn as gaps."""
    with np.errstate(all="ignore"):
        sections = [section for make in SECTIONS if (section := _made(make, groups)) is not None]
        return _page(groups, sections)


def _made(make: MakeSection, groups: Sequence[Group]) -> Section | None:
    """Make a section; where a wrong value prevents it, it says so and the others are shown."""
    try:
        return make(groups)
    except DAMAGED as error:
        title = make.__name__.capitalize()
        return Section(title, note=f"This part is left out: {reason(error, 'what it needs')}.")


def _page(groups: Sequence[Group], sections: Sequence[Section]) -> str:
    charts = [chart for section in sections for chart in section.charts]
    num_lines = sum(len(chart.lines) for chart in charts)
    points = max(8, min(POINTS_PER_LINE, POINTS_PER_PAGE // max(1, num_lines)))
    plain = [
        {
            "label": chart.y_label,
            "log": chart.is_log,
            "lines": [decimate(line, points) for line in chart.lines],
        }
        for chart in charts
    ]
    runs = plural(sum(len(group.runs) for group in groups), "run")
    configurations = plural(len(groups), "configuration")
    written = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    about = f"{runs} of {configurations}, written {written} by lit-rl report"
    return render("page.html", title=_title(groups), about=about, sections=sections, charts=plain)


def _title(groups: Sequence[Group]) -> str:
    """Name the learners and environments, each pair once."""
    return " · ".join(dict.fromkeys(f"{g.runs[0].algorithm}, {g.environment}" for g in groups))
