"""What a file that both the trainer and its workers import does to the process that imports it."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import pytest

from lit_rl.collect.workers import process


def test_importing_it_hides_no_gpu_from_the_trainer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    spec: Any = importlib.util.spec_from_file_location("copy_of_process", process.__file__)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
