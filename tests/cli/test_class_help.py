import inspect
import subprocess
import sys

import pytest

from lit_rl.arguments import Count, Positive, Share, declared, expectation
from lit_rl.cli import catalog, class_help
from lit_rl.cli.other_names import OTHER_NAMES
from tests import nameable

CLASSES = {found.__name__: found for found in nameable.classes()}
SOURCES = {name: source for found in catalog.kinds().values() for name, source in found.items()}
SB3 = {
    "PPO": "policy env learning_rate n_steps batch_size n_epochs gamma gae_lambda clip_range clip_range_vf "
    "normalize_advantage ent_coef vf_coef max_grad_norm use_sde sde_sample_freq rollout_buffer_class "
    "rollout_buffer_kwargs target_kl stats_window_size tensorboard_log policy_kwargs verbose seed device",
    "SAC": "policy env learning_rate buffer_size learning_starts batch_size tau gamma train_freq "
    "gradient_steps action_noise replay_buffer_class replay_buffer_kwargs optimize_memory_usage ent_coef "
    "target_update_interval target_entropy use_sde sde_sample_freq use_sde_at_warmup stats_window_size "
    "tensorboard_log policy_kwargs verbose seed device",
    "TD3": "policy env learning_rate buffer_size learning_starts batch_size tau gamma train_freq "
    "gradient_steps action_noise replay_buffer_class replay_buffer_kwargs optimize_memory_usage "
    "policy_delay target_policy_noise target_noise_clip stats_window_size tensorboard_log policy_kwargs "
    "verbose seed device",
}
"""Arguments of Stable-Baselines3, as its files declare them."""
LEARNER_OF = {"RolloutDataModule": "PPO", "ReplayDataModule": "SAC"}


def test_the_list_holds_what_a_configuration_can_name():
    assert SOURCES.keys() == CLASSES.keys()
    for name, source in SOURCES.items():
        assert source.module == CLASSES[name].__module__
        assert source.sentence.endswith(".")


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_source_says_what_the_class_declares(name):
    owner, arguments = CLASSES[name], {each.name: each for each in SOURCES[name].arguments()}
    assert arguments.keys() == declared(owner).keys()
    for argument, hint in declared(owner).items():
        said = expectation(argument, hint)
        assert expectation(argument, arguments[argument].hint) == said or "that makes a" in said
    for argument, parameter in inspect.signature(owner).parameters.items():
        if argument in arguments and isinstance(parameter.default, int | float | str | None):
            words = {None: "null", True: "true", False: "false"}
            is_word = parameter.default is None or isinstance(parameter.default, bool)
            said = words[parameter.default] if is_word else str(parameter.default)
            assert arguments[argument].default == said, argument


def test_words_for_types():
    assert expectation("clip", Share) == "a number with 0 < clip <= 1"
    assert expectation("n", Count | None) == "a whole number with n >= 1, or null"
    assert expectation("r", tuple[Positive, Positive]) == "a list of 2, each entry a number with r > 0"
    assert expectation("names", list[str]) == "a list, each entry text"
    assert expectation("anything", object) == ""


def test_explains_each_argument_in_a_line(run, capsys):
    assert run("help", "PPO") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "PPO (lit_rl.algos.ppo.ppo.PPO)"
    assert len(lines) == 3 + len(declared(CLASSES["PPO"])) - 1  # spec comes from the data module
    assert (
        "  clip (default 0.2; a number with 0 < clip <= 1): Half width of the trusted interval of the "
        "probability ratio. Less is more cautious. [SB3: clip_range; CleanRL: clip_coef]"
    ) in lines


@pytest.mark.parametrize(
    "args",
    [
        ("help", "SAC"),
        ("fit", "--help", "SAC"),
        ("fit", "--model.help", "SAC"),
        ("fit", "--model.help=lit_rl.SAC"),
        ("fit", "--config", "tiny.yaml", "--model.help", "SAC"),
    ],
)
def test_all_ways_to_ask_get_one_answer(run, capsys, args):
    assert run(*args) == 0
    assert capsys.readouterr().out == class_help.explain(SOURCES["SAC"])


def test_lists_all_by_kind(run, capsys):
    assert run("help") == 0
    text = capsys.readouterr().out
    for kind, found in catalog.kinds().items():
        assert f"\n{kind.capitalize()}:\n" in text
        for name, source in found.items():
            assert any(
                line.split()[0] == name and line.endswith(source.sentence)
                for line in text.splitlines()
                if line.startswith("  ")
            )


def test_unknown_name(error):
    assert error(2, "help", "rolloutdatamodul") == (
        "there is no 'rolloutdatamodul' that a configuration can name; did you mean RolloutDataModule or "
        "MorphologyDataModule or ReplayDataModule? lit-rl help lists all"
    )
    assert error(2, "fit", "--help", "xyzzy") == (
        "there is no 'xyzzy' that a configuration can name; nothing has a similar name; lit-rl help lists all"
    )


def test_names_elsewhere_belong_to_arguments():
    for owner, names in OTHER_NAMES.items():
        assert names.keys() <= declared(CLASSES[owner]).keys()
        there = SB3[LEARNER_OF.get(owner, owner)].split()
        for argument, elsewhere in names.items():
            word = elsewhere.sb3.split(" ")[0]
            assert not word or word in [*there, "make_vec_env"], argument
            assert elsewhere.sb3 != argument
            assert elsewhere.cleanrl != argument


@pytest.mark.parametrize(
    ("args", "code"),
    [(("help", "PPO"), 0), (("fit", "--help", "PPO"), 0), (("fit", "--config", "ppo_cart"), 2)],
)
def test_answers_without_torch(args, code):
    script = (
        "import sys; from lit_rl.cli import main\ncode = 0\ntry: main(sys.argv[1:])\n"
        "except SystemExit as error: code = error.code\n"
        "assert not {'torch', 'lightning', 'numpy'} & {*sys.modules}\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script, *args], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert ("did you mean ppo_cartpole?" in done.stderr) == (code == 2)
