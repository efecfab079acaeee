"""The package list, the lazy imports, the declared dependencies, and what a built wheel holds."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import lit_rl
import lit_rl.callbacks
import lit_rl.envs.alice_bob
import lit_rl.envs.arm
import lit_rl.envs.pettingzoo

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]
MAPPED = PROJECT["tool"]["setuptools"]["package-dir"]
IMPORT_NAME = {
    "PIL": "pillow",
    "grpc": "grpcio",
    "markupsafe": "jinja2",
    "packaging": "lightning",
    "mujoco": "gymnasium",
    "torch_geometric": "torch-geometric",
    "tqdm": "lightning",
    "yaml": "jsonargparse",
}
"""Import name -> the declared distribution that brings it, where the two differ."""


def folder_of(package: str) -> Path:
    """Where the files of ``package`` lie: by setuptools' rule, the longest mapped parent wins."""
    if package in MAPPED:
        return ROOT / MAPPED[package]
    parent, _, child = package.rpartition(".")
    return folder_of(parent) / child


def sources() -> dict[str, Path]:
    """Every file that belongs into a wheel: its path there, and where it lies in the repository."""
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    return {
        f"{package.replace('.', '/')}/{file.relative_to(folder_of(package))}": file
        for package in PACKAGES
        for pattern in ["*.py", *patterns.get(package, [])]
        for file in folder_of(package).glob(pattern)
    }


def imports(file: Path) -> set[str]:
    """Top-level names that a source file imports, also inside functions."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


def python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)


def test_every_folder_with_python_files_is_a_listed_package():
    inside = {file.parent for top in ("lit_rl", "callbacks") for file in (ROOT / top).rglob("*.py")}
    folders = {folder.resolve() for folder in (*inside, ROOT / "configs")}
    assert {folder_of(package).resolve() for package in PACKAGES} == folders


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_what_it_is(package: str):
    module = ast.parse((folder_of(package) / "__init__.py").read_text())
    assert ast.get_docstring(module), f"{package}/__init__.py has no docstring"


@pytest.mark.parametrize("name", ["callbacks", "configs"])
def test_folders_on_top_are_linked_into_the_package_by_relative_symlinks(name: str):
    link = ROOT / "lit_rl" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name


LAZY = [lit_rl, lit_rl.callbacks, lit_rl.envs.alice_bob, lit_rl.envs.arm, lit_rl.envs.pettingzoo]


@pytest.mark.parametrize("module", LAZY, ids=lambda module: module.__name__)
def test_lazy_names_all_load(module):
    assert set(module.__all__) == set(module._HOME)
    for name in module.__all__:
        assert getattr(module, name).__name__ == name
        assert name in dir(module)
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        _ = module.Nonsense


def test_importing_the_package_loads_neither_torch_nor_lightning():
    code = "import sys, lit_rl.callbacks, lit_rl.configs; print({'torch', 'lightning'} & {*sys.modules})"
    assert python(code, ROOT).stdout == "set()\n"


def test_numba_is_loaded_by_those_alone_who_use_it():
    code = "import sys, lit_rl.data.rollout, lit_rl.envs.arm; print({'numba', 'llvmlite'} & {*sys.modules})"
    assert python(code, ROOT).stdout == "set()\n"


@pytest.mark.parametrize("name", ["callbacks", "configs"])
def test_folders_on_top_refuse_to_be_imported_by_their_short_name(name: str):
    result = python(f"import {name}", ROOT)
    assert f"import `lit_rl.{name}`, not `{name}`" in result.stderr


def test_every_third_party_import_is_declared():
    extras = [line for lines in PROJECT["project"]["optional-dependencies"].values() for line in lines]
    declared = {re.split(r"[^\w-]", line)[0] for line in (*PROJECT["project"]["dependencies"], *extras)}
    for path, file in sources().items():
        for name in imports(file) - {"lit_rl", *sys.stdlib_module_names} if file.suffix == ".py" else ():
            assert IMPORT_NAME.get(name, name.replace("_", "-")) in declared, f"{path} imports {name}"


def test_wheel_holds_each_file_once_even_where_symlinks_are_lost(tmp_path: Path):
    checkout = tmp_path / "checkout"
    for name in ("lit_rl", "callbacks", "configs"):
        shutil.copytree(ROOT / name, checkout / name, symlinks=True)
    for link in ("callbacks", "configs"):
        (checkout / "lit_rl" / link).unlink()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)

    result = python("from setuptools.build_meta import build_wheel; build_wheel('..')", checkout)
    assert result.returncode == 0, result.stderr
    (wheel,) = tmp_path.glob("lit_rl-*.whl")
    shipped = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]

    assert len(shipped) == len(set(shipped))
    assert set(shipped) == set(sources())
