"""Whether a session of ``run_all.py`` is worse than an earlier one by more than the rounds spread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import table

Check = dict[str, Any]
WORSE = "**WORSE**"


def read(paths: list[Path]) -> dict[str, Any]:
    """The reports of one state of the library as one; of a row that several have, the last file counts."""
    reports = [json.loads(path.read_text()) for path in paths]
    checks = [check for report in reports for check in report["checks"]]
    return {"machine": reports[-1]["machine"], "checks": checks}


def verdict(old: Check, new: Check) -> str:
    """Compare the medians; the spread is the wider one of the two ranges over rounds."""
    spread = max(old["max"] - old["min"], new["max"] - new["min"])
    gain = new["measured"] - old["measured"]
    if old["required"].startswith("at most"):  # less is better
        gain = -gain
    if gain < -spread:
        return WORSE
    return "better" if gain > spread else "within the spread"


def as_markdown(old: dict[str, Any], new: dict[str, Any]) -> str:
    """A table with a row for every value of the new report, and a warning if the machines differ."""
    before, after = ({(c["case"], c["what"]): c for c in report["checks"]} for report in (old, new))
    rows = []
    for key, now in after.items():
        was = before.get(key)
        told = verdict(was, now) if was else "new"
        rows.append([*key, table.measured_text(was) if was else "-", table.measured_text(now), told])
    compared = sum(row[-1] != "new" for row in rows)
    worse = sum(row[-1] == WORSE for row in rows)
    machines = [
        f"{one['machine']['processor']}, {one['machine']['usable_cores']} cores" for one in (old, new)
    ]
    differ = f" **The machines differ** ({' / '.join(machines)}), so no verdict holds."
    return "\n\n".join(
        [
            "## Compared with before",
            f"Worse by more than the spread: {worse} of {compared}. Values are medians with their range over "
            "rounds, and the spread is the wider of the two ranges." + differ * (machines[0] != machines[1]),
            table.markdown(["case", "ratio or value", "before", "now", "verdict"], rows),
        ]
    )
