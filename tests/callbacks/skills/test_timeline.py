from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from lit_rl.callbacks.skills.timeline import MAX_SPANS, RECENT, SkillTimeline, shares


def test_spans_merge_and_lose_no_assignment():
    timeline, counts = SkillTimeline(origin=1000), Counter()
    for k in range(1001):
        team = {k % 5: 2, 7: 1} if k != 400 else {}
        counts.update(team)
        timeline.add(1000 + 16 * k, 1016 + 16 * k, team, {0: 1}, [(1000 + 16 * k, None, [k])] * 3)
    spans = timeline.get_state()["spans"]
    assert 100 <= len(spans) <= MAX_SPANS
    assert timeline.width == 16 * 8
    assert sum((Counter(span["team"]) for span in spans), Counter()) == counts
    summary = timeline.summary()
    edges = [(span["from"], span["to"]) for span in summary["spans"]]
    assert edges[0] == (1000, 1128)
    assert all(one[1] == two[0] for one, two in pairwise(edges))
    assert edges[-1][1] == summary["env_steps"] == 1000 + 16 * 1001
    assert all(sum(span["team"]) == pytest.approx(1, abs=1e-3) for span in summary["spans"])
    assert len(summary["assignments"]) == RECENT
    assert summary["assignments"][-1] == [1000 + 16 * 1000, None, [1000]]


def test_a_long_run_is_as_one_that_always_had_wide_spans():
    fine, wide = SkillTimeline(), SkillTimeline()
    for k in range(256):
        fine.add(10 * k, 10 * k + 10, {k % 3: 1}, {})
    for k in range(128):
        pair = Counter([2 * k % 3, (2 * k + 1) % 3])
        wide.add(20 * k, 20 * k + 20, pair, {})
    assert fine.summary() == wide.summary()


def test_shares_by_hand():
    assert shares({0: 1, 2: 2}, 4) == [0.3333, 0, 0.6667, 0]
    assert shares({}, 4) == []


def test_nothing_was_assigned_yet():
    assert SkillTimeline(5).summary() == {"env_steps": 5, "spans": [], "assignments": []}
