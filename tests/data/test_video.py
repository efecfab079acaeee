from __future__ import annotations

import builtins
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lit_rl import PPO, RolloutDataModule
from lit_rl.data.video import VideoWriter
from tests.toys import Episodes57, MatchingPair, make_trainer


class Filming:
    """Frames that grow brighter."""

    spec = SimpleNamespace(name="Filming")

    def __init__(self) -> None:
        self.brightness = 0

    def frame(self) -> np.ndarray:
        self.brightness += 20
        return np.full((16, 24, 3), self.brightness, np.uint8)


def test_a_gif_of_the_first_episode(tmp_path: Path):
    writer = VideoWriter(Filming(), tmp_path / "new" / "episode.gif")
    for running in (True, True, True, False, False):
        writer.on_step(running)
    writer.save(frames_per_second=10)
    with Image.open(tmp_path / "new" / "episode.gif") as image:
        assert image.size == (24, 16)
        assert image.n_frames == 3  # type: ignore[attr-defined]
        assert image.info["duration"] == 100


@pytest.mark.parametrize("policy", ["greedy", "sample"])
def test_a_video_of_the_evaluation(tmp_path: Path, policy: Any):
    asked = []

    class Asked(PPO):
        def act(self, obs: Any, carry: Any, reset: Any, *, greedy: bool = False) -> Any:
            asked.append(greedy)
            return super().act(obs, carry, reset, greedy=greedy)

    class Rendering(Episodes57):
        metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012

        def __init__(self, render_mode: str | None = None) -> None:
            super().__init__()
            self.render_mode = render_mode

        def render(self) -> np.ndarray:  # type: ignore[override]
            return np.full((8, 8, 3), 30 * self.t, np.uint8)

    # the first evaluation episode has 7 steps
    data = RolloutDataModule(Rendering, eval_episodes=2, seed=2, eval_policy=policy)
    data.video = tmp_path / "eval.gif"
    make_trainer(limit_val_batches=1.0).validate(Asked(hidden=(4,)), datamodule=data, verbose=False)
    assert asked == [policy == "greedy"] * 14  # the evaluation, and the film
    with Image.open(tmp_path / "eval.gif") as image:
        assert image.n_frames == 7  # type: ignore[attr-defined]


def test_a_missing_codec_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import imageio

    def fail(*args: Any, **kwargs: Any) -> None:
        raise ImportError("no ffmpeg")

    monkeypatch.setattr(imageio, "mimsave", fail)
    writer = VideoWriter(Filming(), tmp_path / "episode.mp4")
    writer.on_step(True)
    with pytest.raises(
        ValueError, match=r"episode\.mp4 needs a codec: pip install 'lit-rl\[video\]', or choose a \.gif"
    ):
        writer.save()


def test_a_missing_package_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == "imageio":
            raise ImportError("No module named 'imageio'")
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    writer = VideoWriter(Filming(), tmp_path / "episode.mp4")
    writer.on_step(True)
    with pytest.raises(ValueError, match=r"pip install 'lit-rl\[video\]'"):
        writer.save()


def test_other_files_and_environments_without_frames():
    with pytest.raises(ValueError, match=r"video must end in \.gif or \.mp4, got episode\.avi"):
        VideoWriter(Filming(), Path("episode.avi"))
    with pytest.raises(ValueError, match=r"MatchingPair has no frame\(\)"):
        VideoWriter(MatchingPair(1), Path("episode.gif"))
