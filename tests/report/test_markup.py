import json
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from lit_rl.report import markup
from lit_rl.report.markup import render

EVIL = "</script><b>\"'&"


def test_texts_are_escaped_and_markup_is_not():
    state = render("state.html", name="failed", detail=EVIL)
    escaped = "&lt;/script&gt;&lt;b&gt;&#34;&#39;&amp;"
    assert state == (f'<span class="state failed">failed</span> <span class="muted">{escaped}</span>')
    table = render("table.html", head=["<a>"], rows=[[state, EVIL], ["1", "2"]])
    assert table == (
        '<div class="wide"><table><thead><tr><th scope="col">&lt;a&gt;</th></tr></thead>\n<tbody>\n'
        f"<tr><td>{state}</td><td>{escaped}</td></tr>\n<tr><td>1</td><td>2</td></tr>\n"
        "</tbody></table></div>"
    )


def test_a_state_without_details_is_one_word():
    assert render("state.html", name="finished", detail="") == '<span class="state finished">finished</span>'


def test_skills_are_bars_as_long_as_their_share_of_the_longest():
    tables = [("<t>", "team skill", {"0": 3, "1": 12}), ("none", "agent skill", {})]
    html = render("usage.html", tables=tables)
    assert "<caption>&lt;t&gt;</caption>" in html
    assert 'team skill 0</th><td><span class="bar" style="width:17.5%"></span> 3</td>' in html
    assert 'team skill 1</th><td><span class="bar" style="width:70.0%"></span> 12</td>' in html
    assert "agent skill" not in html


def test_data_of_the_page_cannot_end_its_script():
    page = render("page.html", title="t", about="a", sections=[], charts=[{"name": EVIL}])
    data = page.partition('id="charts">')[2].partition("</script>")[0]
    assert "<" not in data
    assert json.loads(data) == [{"name": EVIL}]


def test_a_value_that_nobody_gave_is_an_error():
    with pytest.raises(UndefinedError, match="'head' is undefined"):
        render("table.html", rows=[])


@pytest.mark.parametrize(
    "path", sorted(Path(markup.__file__).parent.joinpath("templates").iterdir()), ids=str
)
def test_every_template_is_used(path):
    folder = Path(markup.__file__).parent
    others = [*folder.glob("*.py"), *(other for other in path.parent.iterdir() if other != path)]
    assert any(f'"{path.name}"' in other.read_text() for other in others)
    assert isinstance(render("list.html", items=[]), Markup)
