"""The page of questions prints what the commands print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lit_rl.cli import main

PAGE = (Path(__file__).parents[1] / "docs" / "faq.md").read_text()
SHOWN = re.findall(r"```console\n\$ lit-rl (.+)\n(.+)\n```", PAGE)


def test_every_block_of_the_page_is_read():
    assert len(SHOWN) == PAGE.count("```console") > 5


@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
@pytest.mark.parametrize(("command", "line"), SHOWN, ids=[command for command, _ in SHOWN])
def test_a_message_is_what_the_command_prints(
    command: str,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(main(shlex.split(command)))
    assert ended.value.code not in (0, None)
    last = capsys.readouterr().err.rstrip().rpartition("\n")[2]
    beginning, is_cut, _ = line.partition("...")
    assert last.startswith(beginning) if is_cut else last == line
    assert not (tmp_path / "runs").exists()
