"""The notebooks run from top to bottom, for a moment only, and are committed without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
SHOWS = {
    "01_first_run": ["image/png", "image/gif"],
    "02_your_own_env": ["image/png"],
    "03_watching_a_run": ["image/png"] * 3,
    "04_hmasd_skills": ["image/png"] * 5,
    "05_encoders": ["image/png"] * 2,
    "06_map_elites": ["image/png"] * 3,
    "07_go2": ["image/png"] * 2,
    "08_actor_learner": ["image/png"],
    "09_policy_bundle": ["image/png"],
}
"""Pictures each notebook shows, in their order."""

SLOW = ("04_hmasd_skills", "05_encoders", "06_map_elites", "08_actor_learner", "09_policy_bundle")
"""They run with ``-m slow``, since other tests run what they do."""

WIDE = ("02_your_own_env", "03_watching_a_run", "07_go2")
"""They run with ``-m wide``, as .ci/run does."""


def _marks(name: str) -> tuple[pytest.MarkDecorator, ...]:
    return (pytest.mark.slow,) if name in SLOW else (pytest.mark.wide,) if name in WIDE else ()


every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_of(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@every_notebook
def test_is_committed_without_outputs(path: Path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in code_of(path):
        assert cell.outputs == []
        assert cell.execution_count is None
        assert cell.metadata == {}


@every_notebook
def test_is_short(path: Path):
    _imports, *cells = code_of(path)
    lines = [line for cell in cells for line in cell.source.splitlines() if line.strip()]
    assert len(lines) <= 60


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=_marks(path.stem)) for path in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LIT_RL_SMOKE", "1")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))  # leave the history of the user alone
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [kind for output in outputs for kind in output.get("data", {}) if kind.startswith("image/")]
    assert shown == SHOWS[path.stem]
