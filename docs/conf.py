"""Settings of Sphinx for these pages; ``make docs`` builds them, and takes a warning for an error."""

from __future__ import annotations

import shutil
from pathlib import Path

import lit_rl

HERE = Path(__file__).parent
shutil.rmtree(HERE / "notebooks", ignore_errors=True)  # Sphinx reads no pages from outside its folder
shutil.copytree(HERE.parent / "notebooks", HERE / "notebooks", ignore=shutil.ignore_patterns(".*"))
shutil.copy(HERE.parent / "CHANGELOG.md", HERE / "changelog.md")
shutil.copy(HERE.parent / "CONTRIBUTING.md", HERE / "contributing.md")

project = "lit_rl"
author = "the authors of lit_rl"
release = version = lit_rl.__version__
project_copyright = author

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns: list[str] = []
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are committed with their outputs
autodoc_typehints = "none"  # docstrings say it in words; `lit-rl help NAME` prints the ranges
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
copybutton_exclude = ".linenos, .gp, .go, .o"

html_theme = "furo"
html_title = f"lit_rl {release}"
html_static_path: list[str] = []
