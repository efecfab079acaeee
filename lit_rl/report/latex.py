"""The table of returns, in LaTeX with booktabs.

Axes: I runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lit_rl.report.statistics import Interval

_ESCAPES = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}

_TABLE = r"""%% Written by lit-rl paper; needs \usepackage{booktabs}
\begin{table}
  \centering
  \caption{%(caption)s}
  \label{tab:returns}
  \begin{tabular}{llrrrcr}
    \toprule
    Environment & Method & Runs & Env steps & IQM & 95\,\%% interval & Mean \\
%(rows)s
    \bottomrule
  \end{tabular}
\end{table}
"""


class Row(NamedTuple):
    """One configuration.

    Attributes:
        environment: Its environment; rows of one environment stand together.
        method: Its learner, and what tells it from others.
        scores: ``(I,)`` final return of each run.
        interval: Interquartile mean of them, with its interval.
        env_steps: Env steps that each run did.
    """

    environment: str
    method: str
    scores: np.ndarray
    interval: Interval
    env_steps: list[int]


def latex_table(rows: Sequence[Row], of_what: str) -> str:
    """Write a ``table`` environment with a rule between environments.

    Args:
        rows: One for each configuration.
        of_what: Continues the word return: ``of the greedy policy``.
    """
    caption = (
        f"Return {of_what} at the end of training: interquartile mean (IQM) over runs with different seeds, "
        r"95\,\% percentile interval of the stratified bootstrap, and mean."
    )
    if min(len(row.scores) for row in rows) < 4:
        caption += " The IQM of fewer than four runs is their mean."
    lines = []
    for environment in dict.fromkeys(row.environment for row in rows):
        lines.append(r"    \midrule")
        members = [row for row in rows if row.environment == environment]
        for number, row in enumerate(members):
            lines.append(_line(row, escape(environment) if number == 0 else ""))
    return _TABLE % {"caption": caption, "rows": "\n".join(lines)}


def escape(text: str) -> str:
    """Write ``text`` so that LaTeX prints it as it is."""
    return re.sub(r"[&%$#_{}\\~^]", lambda match: _ESCAPES.get(match[0], f"\\{match[0]}"), text)


def _line(row: Row, environment: str) -> str:
    largest = float(np.abs(row.scores).max())
    decimals = 2 if largest == 0 else max(0, 3 - math.floor(math.log10(largest)))
    center, low, high = (f"{float(value):.{decimals}f}" for value in row.interval)
    interval = f"[{low}, {high}]" if np.isfinite(row.interval.low) else "--"
    least, most = min(row.env_steps), max(row.env_steps)
    steps = _thousands(least) if least == most else f"{_thousands(least)}--{_thousands(most)}"
    mean = f"{row.scores.mean():.{decimals}f}"
    cells = [environment, escape(row.method), str(len(row.scores)), steps, center, interval, mean]
    return f"    {' & '.join(cells)} \\\\"


def _thousands(count: int) -> str:
    return f"{count:,}".replace(",", r"\,")
