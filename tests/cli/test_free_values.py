"""Values of arguments that take anything: overrides change their own key only, and text stays text."""

import pytest
import yaml

from lit_rl.cli.free_values import overridden

CONFIG = """\
model: {class_path: PPO, init_args: {hidden: [8], batch_size: 16}}
data:
  class_path: RolloutDataModule
  init_args:
    env: CartPole-v1
    env_kwargs: {cfg: {a: 1, b: {c: 0.5, d: "7"}}, name: "3", flag: "true", size: 1.0e-3}
budget: {total_env_steps: 32}
"""


@pytest.fixture
def printed(run, cwd, capsys):
    """``printed(*flags)`` is what ``env_kwargs`` become."""
    (cwd / "free.yaml").write_text(CONFIG)

    def parse(*flags):
        assert run("fit", "--config", "free.yaml", *flags, "--print_config") == 0
        return yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["env_kwargs"]

    return parse


def test_text_stays_text(printed):
    found = printed()
    assert found == {"cfg": {"a": 1, "b": {"c": 0.5, "d": "7"}}, "name": "3", "flag": "true", "size": 1e-3}


def test_a_nested_override_changes_its_own_key_only(printed):
    flags = {"cfg.a": "3", "cfg.b.c": "0.25", "new": '"5"'}
    given = [token for key, text in flags.items() for token in (f"--data.env_kwargs.{key}", text)]
    assert printed(*given) == {
        "cfg": {"a": 3, "b": {"c": 0.25, "d": "7"}}, "name": "3", "flag": "true", "size": 1e-3, "new": "5",
    }  # fmt: skip


def test_a_nested_override_under_a_key_that_holds_no_keys():
    assert overridden({"a": 1}, "a.b", 2) == {"a": {"b": 2}}
    assert overridden(None, "a.b.c", [1]) == {"a": {"b": {"c": [1]}}}


def test_what_was_overridden_is_saved_and_read_again(run, cwd, printed):
    text = {"data": {"init_args": {"env_kwargs": printed("--data.env_kwargs.cfg.a", "3")}}}
    (cwd / "over.yaml").write_text(yaml.safe_dump(text))
    assert printed("--config", "over.yaml")["cfg"] == {"a": 3, "b": {"c": 0.5, "d": "7"}}
