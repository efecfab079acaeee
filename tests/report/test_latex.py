import numpy as np

from lit_rl.report.latex import Row, escape, latex_table
from lit_rl.report.statistics import Interval


def row(environment, method, scores, low, high, steps):
    center = np.mean(scores)
    return Row(environment, method, np.array(scores), Interval(center, np.array(low), np.array(high)), steps)


def test_rows_stand_by_environment():
    rows = [
        row("CartPole-v1", "PPO, learning_rate 0.1", [480.0, 500.0], 480.0, 500.0, [20000, 20480]),
        row("Pendulum-v1", "SAC", [-163.96], np.nan, np.nan, [10216]),
        row("CartPole-v1", "PPO", [0.0, 0.0], 0.0, 0.0, [500, 500]),
    ]
    text = latex_table(rows, "of the greedy policy")
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    assert [line.strip() for line in body.strip().splitlines()] == [
        r"\midrule",
        r"CartPole-v1 & PPO, learning\_rate 0.1 & 2 & 20\,000--20\,480 & 490.0 & [480.0, 500.0] & 490.0 \\",
        r"& PPO & 2 & 500 & 0.00 & [0.00, 0.00] & 0.00 \\",
        r"\midrule",
        r"Pendulum-v1 & SAC & 1 & 10\,216 & -164.0 & -- & -164.0 \\",
    ]
    assert r"95\,\% interval" in text
    assert text.count("{") == text.count("}")
    assert "Return of the greedy policy" in text
    assert "The IQM of fewer than four runs is their mean." in text


def test_caption_says_what_is_compared():
    text = latex_table([row("E", "M", [1.0] * 4, 1.0, 1.0, [1])], "of the last 100 training episodes")
    assert "Return of the last 100 training episodes" in text
    assert "fewer than four" not in text


def test_special_characters():
    assert escape(r"a_b & 50% #1 $x {y} ~ ^ \z") == (
        r"a\_b \& 50\% \#1 \$x \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}z"
    )
