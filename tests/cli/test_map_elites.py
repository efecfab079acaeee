"""Modes and flags of the documents: defaults, what each flag changes, what is asked, and what is refused.

The flags are those of two documents: 000 (MAP-Elites with a loss recorder) and 001 (shared PPO over workers),
and of the programs that these describe.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_rl.cli import main, shipped
from lit_rl.cli.map_elites.flags import FLAGS, MODES
from lit_rl.cli.map_elites.translate import command_of, configured, defaults_of, overrides, sizes

Run = Callable[..., int]

DOCUMENTED = {
    "experiment_name": None,  # the name of the configuration
    "disable_loss_logging": False,
    "loss_update_interval": 15,
    "num_generations": 20,
    "training_steps_per_individual": 2000,
    "num_initial_random": 10,
    "individuals_per_generation": 5,
    "enable_rendering": False,
    "use_genetic_fitness": False,
    "env_type": "reacher2d",
    "save_dir": "map_elites_results",
    "seed": 42,
    "lr": 3e-4,
    "silent_mode": False,
    "loss_log_dir": None,  # network_loss_logs in the run directory
}
"""Defaults of document 000 and of its program, which the mode ``custom`` has."""

SMALL = [
    "--data.num_envs", "4", "--data.rollout_steps", "8", "--data.env_kwargs",
    '{"num_bodies": 4, "num_steps": 8}', "--data.eval_episodes", "2", "--data.num_goals", "2",
    "--model.batch_size", "16", "--model.hidden", "[4]", "--budget.total_env_steps", "64",
]  # fmt: skip


def shipped_mode(mode: str) -> dict[str, Any]:
    return yaml.safe_load(shipped.find(MODES[mode]).read_text())


def changed(*argv: str, mode: str = "custom") -> dict[str, Any]:
    """What a command line changes: values by the keys of ``fit``."""
    command = command_of([mode, *argv])
    assert command[:3] == ["fit", "--config", MODES[mode]]
    return dict(zip(command[3::2], map(yaml.safe_load, command[4::2]), strict=True))


def callbacks(*argv: str, mode: str = "custom") -> dict[str, Any]:
    """Arguments of each callback that a command line asks for."""
    entries = changed(*argv, mode=mode)["--trainer.callbacks"]
    return {entry["class_path"].rpartition(".")[2]: entry["init_args"] for entry in entries}


def test_custom_has_the_defaults_of_the_document():
    found = defaults_of(shipped_mode("custom"))
    assert {name: found[name] for name in DOCUMENTED} == DOCUMENTED


def test_there_are_no_losses_but_in_the_folder_that_the_document_names():
    from lit_rl.loss_log import LOG_DIR

    assert LOG_DIR == "network_loss_logs"


def test_every_mode_of_the_document_is_a_configuration():
    assert list(MODES) == ["basic", "advanced", "multiprocess", "shared-ppo", "custom"]
    for mode in MODES:
        assert sizes(shipped_mode(mode))["num_generations"] > 0
        assert overrides(shipped_mode(mode), configured(shipped_mode(mode), {})) == []


def test_advanced_offers_the_defaults_of_its_program():
    found = defaults_of(shipped_mode("advanced"))
    assert (found["num_generations"], found["individuals_per_generation"]) == (20, 5)
    assert (found["num_initial_random"], found["training_steps_per_individual"]) == (10, 2000)
    assert (found["enable_rendering"], found["use_genetic_fitness"]) == (False, True)


def test_multiprocess_has_the_four_workers_of_the_document():
    data = shipped_mode("multiprocess")["data"]["init_args"]
    assert (data["collector"], data["num_workers"]) == ("workers", 4)


GIVEN: dict[str, tuple[list[str], dict[str, Any]]] = {
    "use_genetic_fitness": (["--use-genetic-fitness"], {"--data.init_args.genetic_fitness": True}),
    "save_dir": (["--save-dir", "elsewhere"], {"--trainer.default_root_dir": "elsewhere"}),
    "lr": (["--lr", "0.01"], {"--model.init_args.learning_rate": 0.01}),
    "hidden_dim": (["--hidden-dim", "256"], {"--model.init_args.hidden": [256, 256]}),
    "min_batch_size": (["--min-batch-size", "1000"], {"--model.init_args.batch_size": 1000}),
    "training": (["--training", "fine_tuned"], {"--data.init_args.training": "fine_tuned"}),
    "silent_mode": (["--silent-mode"], {"--trainer.enable_progress_bar": False}),
    "max_workers": (
        ["--max-workers", "3"],
        {
            "--data.init_args.vectorization": "native",
            "--data.init_args.collector": "workers",
            "--data.init_args.num_workers": 3,
        },
    ),
    "timeout": (["--timeout", "30"], {"--data.init_args.step_timeout_s": 30.0}),
    "buffer_size": (
        ["--buffer-size", "20000", "--update-interval", "100"],
        {
            "--data.init_args.num_envs": 200,  # each makes 100 of the 20,000 steps between two updates
            "--data.init_args.rollout_steps": 100,
            "--data.init_args.rollouts_per_bodies": 2,  # an episode of 200 steps
        },
    ),
    "update_interval": (
        ["--update-interval", "80"],  # of 10,240 experiences
        {
            "--data.init_args.num_envs": 128,
            "--data.init_args.rollout_steps": 80,
            # rollouts_per_bodies stays 5: these are 400 steps, two episodes
        },
    ),
    "env_type": (
        ["--env-type", "mujoco"],
        {
            "--data.init_args.env_kwargs": {
                "joints": [3, 4, 5, 6], "num_bodies": 64, "morph": True, "backend": "mujoco",
            }
        },
    ),
    "encoder": (
        ["--encoder", "gnn"],
        {
            "--model.init_args.encoder": {"class_path": "lit_rl.encoders.gnn.GNNEncoder"},
            "--data.init_args.env_kwargs": {
                "joints": [3, 4, 5, 6], "num_bodies": 64, "morph": False, "layout": "tokens",
            },
        },
    ),
}  # fmt: skip
OF_CALLBACKS: dict[str, tuple[list[str], str, dict[str, Any]]] = {
    "experiment_name": (["--experiment-name", "x"], "NetworkLossLogger", {"experiment_name": "x"}),
    "loss_log_dir": (["--loss-log-dir", "logs"], "NetworkLossLogger", {"log_dir": "logs"}),
    "loss_update_interval": (["--loss-update-interval", "5"], "NetworkLossLogger", {"update_interval": 5.0}),
    "enable_rendering": (["--enable-rendering"], "MapElites", {"render": True}),
    "num_generations": (["--num-generations", "30"], "MapElites", {"generations": 32}),
    "num_initial_random": (["--num-initial-random", "11"], "MapElites", {"generations": 23}),
    "individuals_per_generation": (["--individuals-per-generation", "10"], "MapElites", {"batch_size": 10}),
    "training_steps_per_individual": (
        ["--training-steps-per-individual", "20000"], "MapElites", {"every_batches": 9},
    ),
    "seed": (["--seed", "7"], "MapElites", {"seed": 7}),
}  # fmt: skip


def test_every_flag_is_walked_here():
    elsewhere = {"no_render", "no_genetic_fitness", "disable_loss_logging"}
    assert GIVEN.keys() | OF_CALLBACKS.keys() | elsewhere == {flag.name for flag in FLAGS}
    assert set(DOCUMENTED) <= {flag.name for flag in FLAGS}


@pytest.mark.parametrize("name", GIVEN)
def test_a_flag_changes_its_key(name: str):
    argv, expected = GIVEN[name]
    assert changed(*argv) == expected


@pytest.mark.parametrize("name", OF_CALLBACKS)
def test_a_flag_changes_the_argument_of_a_callback(name: str):
    argv, callback, expected = OF_CALLBACKS[name]
    assert expected.items() <= callbacks(*argv)[callback].items()


def test_sizes_give_the_budget():
    assert changed("--num-generations", "30", "--training-steps-per-individual", "5000") == {
        "--trainer.callbacks": changed("--num-generations", "30", "--training-steps-per-individual", "5000")[
            "--trainer.callbacks"
        ],
        "--budget.total_env_steps": 5000 * (10 + 30 * 5),
    }
    both = callbacks("--num-generations", "30", "--training-steps-per-individual", "5000")["MapElites"]
    assert (both["generations"], both["num_initial"]) == (32, 10)
    assert both["every_batches"] == 2  # 79 batches of 10,240 env steps, 32 generations


def test_learning_rates_anneal_over_the_whole_of_another_budget():
    given = changed("--num-generations", "2", mode="shared-ppo")
    assert given["--model.init_args.anneal_env_steps"] == given["--budget.total_env_steps"]


def test_switches_may_be_turned_back():
    is_genetic = {"use_genetic_fitness": True}
    before = configured(shipped_mode("custom"), is_genetic)
    after = configured(before, {"no_genetic_fitness": True})
    assert overrides(before, after) == ["--data.init_args.genetic_fitness", "false"]
    assert callbacks("--enable-rendering", mode="basic")["MapElites"]["render"]
    assert changed("--no-render") == {}


def test_no_losses_are_recorded_when_nobody_wants_them():
    assert list(callbacks("--disable-loss-logging")) == ["MapElites"]


def test_variables_of_the_environment_count_in_multiprocess_and_flags_win(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRAINING_STEPS_PER_INDIVIDUAL", "100")
    monkeypatch.setenv("INDIVIDUALS_PER_GENERATION", "7")
    assert changed(mode="multiprocess")["--budget.total_env_steps"] == 100 * (10 + 20 * 7)
    flags = ["--individuals-per-generation", "8"]
    assert changed(*flags, mode="multiprocess")["--budget.total_env_steps"] == 100 * (10 + 20 * 8)
    assert changed(mode="custom") == {}


def test_train_shared_is_a_mode_of_its_own_name():
    assert command_of(["--train-shared"]) == command_of(["--mode", "shared-ppo"])
    assert command_of(["basic"]) == command_of(["--mode", "basic", "--train"])


def test_keys_of_fit_go_on_to_it():
    command = command_of(["--mode", "basic", "--model.gamma", "0.9"])
    assert command == ["fit", "--config", "map_elites/basic", "--model.gamma", "0.9"]


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["fast"], "expects a mode (basic, advanced, multiprocess, shared-ppo, custom), got 'fast'"),
        (["customs"], "got 'customs'; did you mean custom?"),
        (["basic", "--mode", "custom"], "expects one mode, got basic and custom"),
        (["custom", "--num-generation", "3"], "unknown flag --num-generation; did you mean --num-generat"),
        (
            ["custom", "--num-generations", "0"],
            "--num-generations expects a whole number, at least 1, got '0'",
        ),
        (["custom", "--num-generations", "2.5"], "--num-generations expects a whole number, at least 1, got"),
        (["custom", "--num-generations"], "argument --num-generations: expected one argument"),
        (["custom", "--lr", "nan"], "--lr expects a number, above 0, got 'nan'"),
        (["custom", "--env-type", "reacher"], "argument --env-type: invalid choice: 'reacher'"),
        (["custom", "--enable-rendering", "--no-render"], "--enable-rendering and --no-render contradict"),
        (
            ["custom", "--disable-loss-logging", "--experiment-name", "x"],
            "--experiment-name has no effect with --disable-loss-logging",
        ),
        (
            ["custom", "--buffer-size", "1000", "--update-interval", "300"],
            "--buffer-size 1000 must be a mult",
        ),
        (
            ["custom", "--resume"],
            "--resume: there is no run in map_elites_results/custom/latest; give",
        ),
        (["custom", "--test", "x"], "--test: there is no run in x"),
        (
            [],
            "expects a mode (basic, advanced, multiprocess, shared-ppo, custom), got none, and asks only on",
        ),
        (
            ["advanced"],
            "advanced asks on a terminal, and stdin is none: give --num-generations 20 --individuals-per-gene"
            "ration 5 --num-initial-random 10 --training-steps-per-individual 2000 --no-render "
            "--use-genetic-fitness --save-dir map_elites_results, or take the mode custom",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    argv: list[str], text: str, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run("map-elites", *argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


class Terminal(io.StringIO):
    """Answers that somebody types."""

    def isatty(self) -> bool:
        return True


def test_advanced_asks_for_what_is_not_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.stdin", Terminal("three\n3\n\n4\nmaybe\ny\nno\n\n"))
    given = changed("--training-steps-per-individual", "100", mode="advanced")
    (_losses, search) = given.pop("--trainer.callbacks")
    assert search["init_args"] == {
        "generations": 4, "batch_size": 5, "num_initial": 4, "every_batches": 1, "render": True,
    }  # fmt: skip
    assert given == {"--data.init_args.genetic_fitness": False, "--budget.total_env_steps": 100 * (4 + 3 * 5)}
    shown = capsys.readouterr().out
    assert "generations after the random ones (--num-generations) [20]: --num-generations expects a" in shown
    assert "expected yes or no, got 'maybe'" in shown
    assert "--training-steps-per-individual)" not in shown


def test_the_mode_is_asked_for(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("sys.stdin", Terminal("quick\n\n"))
    assert command_of([]) == ["fit", "--config", "map_elites/basic"]
    assert "got 'quick'" in capsys.readouterr().out


def test_an_input_that_ends_is_no_answer(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.stdin", Terminal("3\n"))
    assert run("map-elites", "advanced") == 2
    assert "the input ended before all questions were answered" in capsys.readouterr().err


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_runs_to_its_archive(mode: str, run: Run, cwd: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", Terminal("\n" * 7))
    quick = ["--test-quick", "--silent", "--seed", "1", "--max-workers", "2"]
    quick = quick if mode == "multiprocess" else quick[:-2]
    assert run("map-elites", mode, *quick, *SMALL, "--run_dir", "here") == 0
    with (cwd / "here/map_elites/archive.csv").open(newline="") as file:
        assert 0 < len(list(csv.reader(file))) - 1 <= 4
    summary = json.loads((cwd / "here/map_elites/summary.json").read_text())
    assert summary["evaluations"] == 4
    config = yaml.safe_load((cwd / "here/config.yaml").read_text())
    assert config["seed_everything"] == 1
    collector = config["data"]["init_args"]["collector"]
    assert collector == ("workers" if mode == "multiprocess" else "inline")


def test_a_run_with_every_flag_has_them_all_and_is_gone_on_with(run: Run, cwd: Path):
    argv = [
        "--num-generations", "1", "--num-initial-random", "2", "--individuals-per-generation", "2",
        "--training-steps-per-individual", "16", "--enable-rendering", "--use-genetic-fitness",
        "--experiment-name", "everything", "--loss-log-dir", "logs", "--loss-update-interval", "1",
        "--save-dir", "results", "--seed", "3", "--lr", "0.001", "--hidden-dim", "4",
        "--min-batch-size", "16",
        "--buffer-size", "64", "--update-interval", "8", "--encoder", "attention", "--training", "pretrained",
        "--silent-mode", "--data.num_goals", "2", "--data.eval_episodes", "2",
        "--checkpoint.every_env_steps", "64",
        "--data.env_kwargs.num_steps", "8",
    ]  # fmt: skip
    assert run("map-elites", "custom", *argv) == 0
    made = cwd / "results/custom/latest"
    assert (made / "map_elites/best.gif").stat().st_size > 1000
    assert (cwd / "logs/everything_loss_log/ppo_losses.csv").is_file()
    config = yaml.safe_load((made / "config.yaml").read_text())
    assert config["model"]["init_args"]["encoder"]["class_path"].endswith("AttentionEncoder")
    assert config["data"]["init_args"]["genetic_fitness"] is True
    assert run("map-elites", "custom", "--test", str(made)) == 0
    assert (made / "eval.json").is_file()
    more = ["--num-generations", "2", "--num-initial-random", "2"]
    assert run("map-elites", "custom", "--save-dir", "results", "--resume", *more) == 0
    assert json.loads((made / "map_elites/summary.json").read_text())["evaluations"] == 2 + 2 * 2


def test_nothing_is_recorded_without_a_recorder(run: Run, cwd: Path):
    quick = ["--test-quick", "--disable-loss-logging", *SMALL, "--run_dir", "here"]
    assert run("map-elites", "basic", *quick) == 0
    assert not (cwd / "here/network_loss_logs").exists()


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]):
    main(["map-elites", "--help"])
    shown = capsys.readouterr().out
    for flag in FLAGS:
        assert flag.option in shown
