import json
from pathlib import Path

import pytest

from lit_rl.cli.evaluation import confidence_interval, summary, write_json

RESULT = {"return_mean": 200.0, "return_std": 40.0, "length_mean": 200.0, "episodes": 16, "env_steps": 5000}


def test_interval_by_hand():
    interval = confidence_interval(200.0, 40.0, 16)  # 2.1314 * 40 / 4
    assert interval == pytest.approx((178.686, 221.314), abs=0.01)


def test_one_episode_has_no_interval():
    assert confidence_interval(1.0, 0.0, 1) is None
    text = summary({**RESULT, "episodes": 1}, Path("x.ckpt"))
    assert text.startswith("return 200.0 over 1 episode, too few for an interval, length 200.0")


@pytest.mark.parametrize(
    ("policy", "words"),
    [("greedy", " of the greedy policy"), ("sample", " of the sampled policy"), (None, "")],
)
def test_summary(policy, words):
    assert summary(RESULT, Path("runs/a/checkpoints/best.ckpt"), policy) == (
        f"return 200.0 (95 % interval 178.7 to 221.3){words} over 16 episodes, length 200.0, env steps 5000, "
        "checkpoint runs/a/checkpoints/best.ckpt"
    )


def test_json(tmp_path):
    path = write_json(RESULT, Path("best.ckpt"), tmp_path, "sample")
    assert json.loads(path.read_text()) == {**RESULT, "eval_policy": "sample", "checkpoint": "best.ckpt"}
    assert [file.name for file in tmp_path.iterdir()] == ["eval.json"]
