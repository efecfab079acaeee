"""Train and draw the pictures of the README: ``python docs/draw_pictures.py [PICTURE ...]``.

Films come from ``lit-rl fit`` and ``lit-rl test --video`` with the shipped configurations. With ``--run
PICTURE=RUN`` the policy of a run that is there is filmed. Curves come from the committed results.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageSequence

HERE = Path(__file__).parent
PICTURES = HERE / "pictures"
RESULTS = HERE.parent / "tests" / "benchmarks" / "results"


@dataclass(frozen=True)
class Film:
    """A film of the README: what is trained and what is shown.

    Args:
        config: A shipped configuration.
        training: Further options of ``lit-rl fit``.
        showing: Further options of ``lit-rl test``.
        every: One frame of so many is kept.
        frames: Number of frames that are kept.
    """

    config: str
    training: tuple[str, ...]
    showing: tuple[str, ...]
    every: int
    frames: int


FILMS = {
    "go2": Film(
        "go2_ppo_joystick",
        ("--seed_everything", "1"),
        ("--data.env_kwargs.staggered", "false", "--data.num_envs", "1", "--data.eval_episodes", "1"),
        every=4,
        frames=60,
    ),
    "uav": Film(
        "mappo_uav",
        ("--seed_everything", "1", "--budget.total_env_steps", "1000000"),
        ("--data.eval_episodes", "1"),
        every=2,
        frames=60,
    ),
}
WIDTH_PX, COLOURS, FRAME_MS = 300, 48, 80


def film(name: str, run: Path | None) -> None:
    """Film a policy, and make the film small enough to lie in the repository."""
    wanted = FILMS[name]
    with tempfile.TemporaryDirectory() as folder:
        if run is None:
            run = Path(folder) / "run"
            _lit_rl("fit", "--config", wanted.config, "--run_dir", str(run), *wanted.training)
        whole = Path(folder) / "whole.gif"
        config = str(run / "config.yaml")
        checkpoint = str(run / "checkpoints" / "last.ckpt")
        _lit_rl("test", "--config", config, "--ckpt_path", checkpoint, "--video", str(whole), *wanted.showing)
        with Image.open(whole) as image:
            frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]
    kept = frames[:: wanted.every][: wanted.frames]
    height = round(kept[0].height * WIDTH_PX / kept[0].width)
    small = [frame.resize((WIDTH_PX, height)).quantize(COLOURS, dither=Image.Dither.NONE) for frame in kept]
    path = PICTURES / f"{name}.gif"
    small[0].save(path, save_all=True, append_images=small[1:], duration=FRAME_MS, loop=0, optimize=True)
    print(f"{path}: {len(small)} of {len(frames)} frames, {path.stat().st_size / 1000:.0f} kB")


def _lit_rl(*arguments: str) -> None:
    environment = {"MUJOCO_GL": "egl"} | os.environ
    subprocess.run([sys.executable, "-m", "lit_rl", *arguments], check=True, env=environment)


def curves() -> None:
    """Draw SAC on HalfCheetah beside Stable-Baselines3: mean and range over seeds of the committed curves."""
    from matplotlib.figure import Figure

    returns: dict[str, dict[int, dict[str, float]]] = {"lit_rl": defaultdict(dict), "sb3": defaultdict(dict)}
    with (RESULTS / "learning_curves.csv").open() as lines:
        for row in csv.DictReader(lines):
            if row["task"] == "sac_halfcheetah" and row["variant"] in ("default", "sb3", ""):
                library = "lit_rl" if row["library"] == "lit_rl" else "sb3"
                steps = round(int(row["env_steps"]) / 10_000) * 10_000  # evaluations after tenths of the run
                returns[library][steps][row["seed"]] = float(row["return"])  # the last of the same tenth
    figure = Figure(figsize=(4.8, 3.6), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    labels = {"lit_rl": "lit_rl", "sb3": "Stable-Baselines3"}
    for library, colour in (("lit_rl", "#2166ac"), ("sb3", "#b2182b")):
        at = sorted(returns[library])
        values = [list(returns[library][steps].values()) for steps in at]
        means = [sum(each) / len(each) for each in values]
        axes.plot(at, means, color=colour, label=f"{labels[library]}, {len(values[-1])} seeds")
        axes.fill_between(at, list(map(min, values)), list(map(max, values)), color=colour, alpha=0.2)
    axes.set(xlabel="env steps", ylabel="return of the greedy policy", title="SAC on HalfCheetah-v5")
    axes.legend(loc="upper left")
    figure.savefig(PICTURES / "learning.png")
    print(f"{PICTURES / 'learning.png'}: mean and range over seeds")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train and draw the pictures of the README.")
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help="go2, uav, learning; default: all")
    parser.add_argument("--run", action="append", default=[], metavar="PICTURE=RUN")
    given = parser.parse_args()
    there = dict(each.split("=", 1) for each in given.run)
    PICTURES.mkdir(exist_ok=True)
    for picture in given.pictures or [*FILMS, "learning"]:
        if picture == "learning":
            curves()
        elif picture in FILMS:
            film(picture, Path(there[picture]) if picture in there else None)
        else:
            parser.error(f"there is no picture {picture!r}: expected {', '.join([*FILMS, 'learning'])}")
