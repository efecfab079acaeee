"""Compiled code: its sine and cosine, and that its cache notices every file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numba import njit
from numba.core import caching

from lit_rl.envs import compiled, sources
from lit_rl.envs.arm import kernel
from lit_rl.envs.arm.controller import _write_torques
from lit_rl.envs.arm.trigonometry import sin_cos


@njit
def table_of(angles):
    out = np.empty((2, len(angles)), angles.dtype)
    for i in range(len(angles)):
        out[0, i], out[1, i] = sin_cos(angles[i], angles.dtype.type)
    return out


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 5e-16), (np.float32, 2e-7)])
def test_sine_and_cosine_are_as_good_as_those_of_the_library(dtype: type, tolerance: float):
    angles = np.linspace(-7, 7, 100_001).astype(dtype)
    got = table_of(angles)
    assert got.dtype == dtype
    wide = angles.astype(np.float64)
    np.testing.assert_allclose(got, [np.sin(wide), np.cos(wide)], rtol=0, atol=tolerance)
    assert np.isnan(table_of(np.array([np.nan, np.inf], dtype))).all()


def test_without_a_folder_for_compiled_code_it_is_compiled_at_every_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    double = compiled.compiled(lambda x: 2 * x)
    assert double(4) == 8
    assert "set NUMBA_CACHE_DIR to a folder that can be written to" in caplog.text


def test_the_cache_of_compiled_code_notices_every_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Numba's key of a compiled function holds what the function closes over: the digest of all files."""
    stamp = sources.digest_of_sources(kernel.__file__)
    for entry in (kernel.play, _write_torques):
        assert stamp in [cell.cell_contents for cell in entry.py_func.__closure__]
    copies = tmp_path / "envs" / "arm"
    copies.mkdir(parents=True)
    for folder, copy in (
        (Path(kernel.__file__).parent, copies),
        (Path(sources.__file__).parent, copies.parent),
    ):
        for path in folder.glob("*.py"):
            (copy / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(sources, "__file__", str(copies.parent / "sources.py"))
    shared = [copies.parent / name for name in ("compiled.py", "jit.py", "streams.py")]
    for changed in (copies / "contacts.py", *shared):
        before = sources.digest_of_sources(str(copies / "kernel.py"))
        with changed.open("a") as file:
            file.write("\n# another line\n")
        assert sources.digest_of_sources(str(copies / "kernel.py")) != before
