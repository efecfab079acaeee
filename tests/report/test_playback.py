import json
import re
from typing import Any

import numpy as np
import pytest

from lit_rl.envs.alice_bob import AliceAndBob
from lit_rl.envs.uav.network import UAVNetwork
from lit_rl.report import playback as module
from lit_rl.report.animation import Animation
from lit_rl.report.html import write_report
from lit_rl.report.playback import playback
from lit_rl.report.runs import group_runs, read_run
from lit_rl.report.uav_drawing import _label_places, _Scale, draw_uav
from tests.report.test_html import Strict, headings


def record(env, steps, skills=True):
    """What a data module writes, of random actions."""
    rng = np.random.default_rng(0)
    env.reset(0)
    frames = []
    shape = (env.num_envs, len(env.spec.agents))
    for _ in range(steps):
        frames.append(env.picture(0))
        is_box = env.spec.action.kind == "box"
        env.step(rng.uniform(-1, 1, (*shape, 3)).astype(np.float32) if is_box else rng.integers(0, 5, shape))
    content = {"env": "x", "agents": list(env.spec.agents), "env_steps": 640, "end": "truncated"}
    content |= {"reward": [0.5] * steps, "fixed": {}, "frames": frames}
    if skills:
        content |= {"team_skill": [k // 8 % 3 for k in range(steps)], "skill_start": [True] * steps}
        content |= {"agent_skills": [[k // 8 % 2] * shape[1] for k in range(steps)]}
    return content


def write(run, content):
    (run / "playback.json").write_text(json.dumps(content))
    return run


def section(*runs) -> Any:
    return playback(group_runs([read_run(run) for run in runs]))


def tracks(html):
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', html)[1])


@pytest.fixture(scope="module")
def flight():
    return record(UAVNetwork(1), 40)


@pytest.mark.parametrize("env", [UAVNetwork, AliceAndBob])
def test_page_with_a_playback(make_run, env):
    text = write_report([write(make_run("a"), record(env(1), 20))]).read_text()
    assert headings(Strict(text)).endswith("SpeedPlaybackTo repeat itWhat was dropped")
    assert "greedy policy after 640 env steps: 20 steps, truncated" in text  # older files do not say
    assert '<div class="controls" hidden>' in text
    assert "nan" not in text.partition("<h2>Playback")[2].partition("<h2>")[0].lower()


def test_it_says_which_policy_was_played(make_run, flight):
    for policy, words in (("greedy", "greedy policy"), ("sample", "sampled policy")):
        run = write(make_run(policy), {**flight, "eval_policy": policy})
        assert f", {words} after 640 env steps: " in section(run).html


def test_the_last_frame_stands_still_and_all_are_in_the_data(make_run, flight):
    html = section(write(make_run("a"), flight)).html
    last = flight["frames"][-1]
    assert (
        f"t = 39 s, {last['throughput_mbps']:.1f} Mbit/s, {last['connected_users']} of 50 users connected"
        in html
    )
    for uav, (_, _, height) in enumerate(last["uavs"]):
        assert f">{uav}: {height} m</text>" in html
    data = tracks(html)
    assert data["frames"] == 40
    assert all(len(values) == 40 for _, _, values in data["tracks"])
    numbers = {element for element, _, _ in data["tracks"]}
    assert numbers == {int(k) for k in re.findall(r'data-moves="(\d+)"', html)}
    assert all(values[0] is not None for _, _, values in data["tracks"])


def test_each_user_is_drawn_once_by_its_state(flight):
    frame = flight["frames"][-1]
    frame = {**frame, "link": [0, 0, *[-1] * 48], "connected": [1, *[0] * 49]}
    svg = draw_uav([frame], [0], Animation(1)).svg
    paths = dict(
        re.findall(r'<path stroke="(var\(--\w+\))" stroke-width="\d" stroke-linecap="round" d="(.*?)"', svg)
    )
    counts = {color: path.count("h0") for color, path in paths.items()}
    assert counts == {"var(--muted)": 48, "var(--c1)": 1, "var(--c2)": 1}
    (links,) = re.findall(r'stroke-width="1" stroke-opacity="0.7" d="(.*?)"', svg)
    assert links.count("L") == 2


def test_routes_lead_to_their_gateway(flight):
    frame = {**flight["frames"][0], "uavs": [[0, 500, 50], [500, 500, 50]], "routes": [[0, -1], [1, 0, -1]]}
    svg = draw_uav([frame], [0], Animation(1)).svg
    assert 'd="M64 294L64 574M344 294L64 294L64 574"' in svg  # the gateway is the lower left corner


def test_labels_cover_neither_uavs_nor_each_other(flight):
    crowd = {
        **flight["frames"][0],
        "uavs": [[500, 500, 100], [505, 500, 90], [500, 510, 80], [1000, 1000, 70]],
    }
    corner = {**crowd, "uavs": [[0, 0, 50]] * 3 + [[30, 0, 50]]}
    at = _Scale(1000)
    for frame in (crowd, corner):
        places = [place[0] for place in _label_places([frame], at)]
        boxes = [(x, y - 10, x + 49, y + 3) for x, y in places]
        boxes += [(x - 9, y - 9, x + 9, y + 8) for x, y in map(at, {tuple(uav) for uav in frame["uavs"]})]
        labels = boxes[:4]
        for k, (left, top, right, bottom) in enumerate(labels):
            others = [box for i, box in enumerate(boxes) if i != k]
            assert not any(left < r and l < right and top < b and t < bottom for l, t, r, b in others)


def test_a_label_that_was_driven_away_comes_back(flight):
    frame = flight["frames"][0]
    crowd, alone = [[500, 500, 50]] * 5, [[100 + 200 * k, 500, 50] for k in range(5)]
    at = _Scale(1000)
    places = _label_places([{**frame, "uavs": crowd}, {**frame, "uavs": alone}], at)
    away = [abs(y - at(uav)[1]) for (_, (_, y)), uav in zip(places, alone, strict=True)]
    assert max(away) < 25


def test_policies_without_skills_have_a_reward_and_no_band(make_run):
    html = section(write(make_run("a"), record(AliceAndBob(1), 5, skills=False))).html
    assert 'aria-label="reward over step of the episode"' in html


def test_a_cursor_stands_in_the_middle_of_its_step(make_run, flight):
    data = tracks(section(write(make_run("a"), flight)).html)
    cursor = next(
        v for _, name, v in data["tracks"] if name == "transform" and v[0].endswith(" 0)") and "143" in v[0]
    )
    assert cursor[0] == "translate(143.2 0)"  # 130 + 1056 * 0.5 / 40
    assert cursor[-1] == "translate(1172.8 0)"


def test_long_playbacks_leave_out_frames_but_not_the_last(make_run, flight, monkeypatch):
    whole = section(write(make_run("a"), flight)).html
    monkeypatch.setattr(module, "PLAYBACK_BYTES", len(whole) // 2)
    html = section(write(make_run("b"), flight)).html
    assert len(html) < len(whole) // 2
    assert re.search(r"; one step of (4|8) is shown", html)
    assert "t = 39 s" in html
    assert "40 of 40" in html


def test_the_page_stays_small(make_run, monkeypatch, flight):
    run, second = write(make_run("a"), flight), write(make_run("b", 2), flight)
    monkeypatch.setattr(module, "PAGE_BYTES", int(1.5 * len(section(run).html)))
    found = section(run, second)
    assert found.html.count("<figure") == 1
    assert found.note.endswith("Not shown, to keep the page small: PPO, CartPole-v1, seed 2.")


def test_large_networks_and_long_episodes_have_room(make_run):
    env = UAVNetwork(1, num_users=200, num_uavs=10, mobility="random_waypoint")
    html = section(write(make_run("a"), record(env, 100))).html
    assert len(html) < module.PLAYBACK_BYTES


def test_a_run_of_an_older_version_holds_its_playback_under_another_name(make_run, flight):
    run = make_run("a")
    (run / "replay.json").write_text(json.dumps({**flight, "env_steps": 1}))
    assert "after 1 env steps: 40 steps" in section(run).html
    write(run, flight)
    assert "after 640 env steps: 40 steps" in section(run).html


def test_an_unknown_kind_and_a_damaged_file(make_run, flight):
    other = {**flight, "frames": [{"kind": "<chess>"} for _ in flight["frames"]]}
    html = section(write(make_run("a"), other)).html
    assert "No drawing for the kind &#39;&lt;chess&gt;&#39;; there are uav_bs_v0, alice_and_bob," in html
    assert ">team skill</text>" in html
    broken = {key: value for key, value in flight.items() if key != "reward"}
    assert "the recorded episode is damaged" in section(write(make_run("b"), broken)).html
    run = make_run("c")
    (run / "playback.json").write_text(json.dumps(flight)[:5000])
    assert "the recorded episode is damaged" in section(run).html
