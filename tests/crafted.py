"""Checkpoints that try to run or import something: a good one, with one entry rewritten.

``HOSTILE`` names a class, a function or a module where a checkpoint may not; each must be refused.
``IGNORED`` does so in places that nothing reads; each must do nothing. Whatever runs leaves a file,
``TRACE``; whatever is imported leaves ``TRAP`` in ``sys.modules``, and the file, too.
"""

from __future__ import annotations

import copy
import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lit_rl import PPO, RolloutDataModule
from tests.toys import make_trainer

TRAP, TRACE = "trapped_module", "it_ran"
Content = dict[str, Any]
Edit = Callable[[Content, Path], None]


def set_trap(folder: Path) -> None:
    """Write the module that leaves a trace when it is imported; ``folder`` must be on ``sys.path``."""
    lines = [f"open({str(folder / TRACE)!r}, 'w').close()", "from lit_rl import PPO", "Encoder = Spec = PPO"]
    (folder / f"{TRAP}.py").write_text("\n".join(lines) + "\n")
    (folder / "sub.yaml").write_text(f"class_path: {TRAP}.Encoder\n")


@functools.cache
def _good() -> Content:
    folder = Path(tempfile.mkdtemp())
    module = PPO(hidden=(8,), batch_size=16, update_epochs=1)
    data = RolloutDataModule("CartPole-v1", 2, 16, 1, vectorization="sync", eval_episodes=2, check=False)
    trainer = make_trainer(default_root_dir=folder)
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(folder / "good.ckpt")
    content = torch.load(folder / "good.ckpt", weights_only=True)
    shutil.rmtree(folder)
    saved = content["hyper_parameters"]
    saved["hidden"] = list(saved["hidden"])  # as the command line writes it
    return content


def good_checkpoint() -> Content:
    """Make what a run of the command line saves; it fits the configuration ``CONFIG``."""
    content = copy.deepcopy(_good())
    content["hyper_parameters"] |= {
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
        "_class_path": "lit_rl.PPO",
    }
    return content


CONFIG = """\
model: {class_path: PPO, init_args: {hidden: [8], batch_size: 16, update_epochs: 1}}
data:
  class_path: RolloutDataModule
  init_args:
    {env: CartPole-v1, num_envs: 2, rollout_steps: 16, vectorization: sync, eval_episodes: 2, check: false}
trainer: {accelerator: cpu, enable_progress_bar: false}
budget: {total_env_steps: 64}
"""


class Payload:
    """An object whose pickle calls ``os.system`` when it is read."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def _touch(folder: Path) -> str:
    return f"touch {folder / TRACE}"


def _shell(folder: Path) -> dict[str, Any]:
    return {"class_path": "os.system", "init_args": {"command": _touch(folder)}}


def _argument(name: str, make: Callable[[Path], Any]) -> Edit:
    def edit(content: Content, folder: Path) -> None:
        content["hyper_parameters"][name] = make(folder)

    return edit


def _encoder(class_path: str, **init_args: Any) -> Edit:
    return _argument("encoder", lambda _: {"class_path": class_path, "init_args": init_args})


def _perceptron(make: Callable[[Path], dict[str, Any]]) -> Edit:
    spec = {"class_path": "lit_rl.encoders.perceptron.PerceptronEncoder"}
    return _argument("encoder", lambda folder: spec | make(folder))


def _entry(*keys: str, value: Callable[[Path], Any]) -> Edit:
    def edit(content: Content, folder: Path) -> None:
        for key in keys[:-1]:
            content = content.setdefault(key, {})
        content[keys[-1]] = value(folder)

    return edit


HOSTILE: dict[str, Edit] = {
    "encoder: os.system": _argument("encoder", _shell),
    "encoder: os.system as text": _argument("encoder", lambda _: "os.system"),
    "encoder: os.system as YAML in text": _argument(
        "encoder", lambda folder: f'{{class_path: os.system, init_args: {{command: "{_touch(folder)}"}}}}'
    ),
    "encoder: a module's class": _encoder(f"{TRAP}.Encoder"),
    "encoder: a module's class as text": _argument("encoder", lambda _: f"{TRAP}.Encoder"),
    "encoder: the path of a configuration": _argument("encoder", lambda folder: str(folder / "sub.yaml")),
    "encoder: no class_path": _argument("encoder", lambda folder: {"init_args": {"a": _shell(folder)}}),
    "encoder: further keys": _argument("encoder", lambda folder: _shell(folder) | {"more": 1}),
    "encoder: builtins.eval": _argument(
        "encoder",
        lambda folder: {
            "class_path": "builtins.eval",
            "init_args": {"source": f"__import__('os').system({_touch(folder)!r})"},
        },
    ),
    "encoder: functools.partial": _encoder("functools.partial", func="os.system"),
    "encoder: a function of lit_rl": _encoder("lit_rl.load_policy", path="x.ckpt"),
    "encoder: what imports by name": _argument(
        "encoder",
        lambda folder: {
            "class_path": "lit_rl.envs.class_path.factory",
            "init_args": {"source": {"class_path": f"{TRAP}.Encoder"}, "argument": "encoder"},
        },
    ),
    "encoder: a learner": _encoder("lit_rl.PPO"),
    "encoder: no encoder of lit_rl": _encoder("lit_rl.nets.NumpyMLP"),
    "encoder: through a file of lit_rl to torch": _encoder("lit_rl.nets.torch.hub.load"),
    "encoder: what an encoder's file imports": _encoder("lit_rl.encoders.image.nn.Module"),
    "encoder: what an encoder's file takes from another": _encoder("lit_rl.encoders.image.linear"),
    "encoder: through the command line to sys": _encoder("lit_rl.cli.command.sys.exit"),
    "encoder: no file of lit_rl": _encoder(f"lit_rl.encoders.{TRAP}.Encoder"),
    "encoder: lit_rl.__main__": _encoder("lit_rl.__main__.main"),
    "encoder: a tensor": _argument("encoder", lambda _: torch.zeros(3)),
    "encoder: a function": _argument("encoder", lambda _: torch._utils._rebuild_tensor_v2),
    "critic_encoder: os.system": _argument("critic_encoder", _shell),
    "nested: a class in a list": _perceptron(lambda folder: {"init_args": {"hidden": [_shell(folder)]}}),
    "nested: a class for text": _perceptron(lambda folder: {"init_args": {"activation": _shell(folder)}}),
    "nested: keys with dots": _perceptron(
        lambda folder: {"init_args": {f"hidden.{key}": value for key, value in _shell(folder).items()}}
    ),
    "nested: wrappers": _perceptron(lambda folder: {"init_args": {"wrappers": [_shell(folder)]}}),
    "nested: dict_kwargs": _perceptron(lambda folder: {"dict_kwargs": {"more": _shell(folder)}}),
    "activation: YAML in text": _argument(
        "activation", lambda folder: f'{{class_path: os.system, init_args: {{command: "{_touch(folder)}"}}}}'
    ),
    "activation: a class": _argument("activation", _shell),
    "clip: what an error message would import": _argument(
        "clip", lambda _: f"Expected a dot import path string: x <class '{TRAP}.X'>"
    ),
    "hidden: a class": _argument("hidden", _shell),
    "hidden: a list of classes": _argument("hidden", lambda folder: [8, _shell(folder)]),
    "spec: a class": _argument("spec", _shell),
    "learner: os.system": _entry("lit_rl", "class_path", value=lambda _: "os.system"),
    "learner: a module's class": _entry("lit_rl", "class_path", value=lambda _: f"{TRAP}.PPO"),
    "learner: a function": _entry("lit_rl", "class_path", value=lambda _: torch._utils._rebuild_tensor_v2),
    "learner: a function of lit_rl": _entry("lit_rl", "class_path", value=lambda _: "lit_rl.load_policy"),
    "learner: twice": _entry("hyper_parameters", "_class_path", value=lambda _: f"{TRAP}.PPO"),
    "learner: made by os.system": _entry("hyper_parameters", "_instantiator", value=lambda _: "os.system"),
    "hyper-parameters: a list": _entry("hyper_parameters", value=lambda folder: [_shell(folder)]),
    "environment: a class": _entry("lit_rl", "spec", value=_shell),
    "pickle: an object that runs": _entry("payload", value=lambda folder: Payload(_touch(folder))),
    "pickle: an object among weights": _entry(
        "state_dict", "policy.network.log_std", value=lambda folder: Payload(_touch(folder))
    ),
}

IGNORED: dict[str, Edit] = {
    "an argument that there is not": _argument("wrappers", lambda folder: [_shell(folder)]),
    "arguments of a data module": _entry(
        "datamodule_hyper_parameters",
        value=lambda folder: {"_instantiator": "os.system", "env": _shell(folder)},
    ),
    "state of a callback": _entry("callbacks", f"{TRAP}.Callback", value=_shell),
    "an entry of its own": _entry("anything", value=_shell),
    "the type of hyper-parameters": _entry("hparams_type", value=lambda _: "os.system"),
    "counters": _entry("state_dict", "_extra_state", "load_state_dict", value=_shell),
}


def craft(edit: Edit, folder: Path) -> Path:
    """Write a good checkpoint with one entry rewritten."""
    content = good_checkpoint()
    edit(content, folder)
    path = folder / "crafted.ckpt"
    torch.save(content, path)
    return path
