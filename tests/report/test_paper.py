import numpy as np
import pytest
import yaml
from matplotlib.image import imread

from lit_rl.report import paper
from lit_rl.report.paper import write_paper


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are put together, but not rendered, which takes half a second each."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path, **options: path.touch())


NO_EVALUATION = ["100,1.0,1,1000,1,", "200,2.0,1,1000,2,"]


def test_figures_and_table(make_run, tmp_path):
    runs = [make_run(f"a{seed}", seed) for seed in (1, 2, 3)] + [make_run("b", 1, clip=0.1)]
    written = write_paper(runs, tmp_path / "out")
    stems = ["training_return_CartPole-v1", "evaluation_return_CartPole-v1", "final_return_CartPole-v1"]
    names = [f"{stem}{suffix}" for stem in stems for suffix in (".pdf", ".png")]
    assert [path.name for path in written] == [*names, "table.tex"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*names, "table.tex"])
    for path in written[:-1]:
        data = path.read_bytes()
        assert data.startswith(b"%PDF" if path.suffix == ".pdf" else b"\x89PNG")
        assert b"/Type3" not in data
    height, width, _ = imread(tmp_path / "out" / "training_return_CartPole-v1.png").shape
    assert (width, height) == (1020, 756)  # 3.4 inches and 300 dots per inch; two lines of legend
    table = (tmp_path / "out" / "table.tex").read_text()
    assert r"PPO, clip 0.2 & 3 & 400 & 80.0 & [40.0, 120.0] & 80.0" in table
    assert r"PPO, clip 0.1 & 1 & 400 & 40.00 & -- & 40.00" in table


def test_figures_repeat_themselves_and_leave_matplotlib_alone(make_run, tmp_path):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    env = "$x^{ \U0001f9ff"  # neither a formula nor in the font
    runs = [make_run("a", 1, rows=NO_EVALUATION, env=env), make_run("b", 2, rows=NO_EVALUATION, env=env)]
    first, second = (write_paper(runs, tmp_path / name) for name in "xy")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert dict(mpl.rcParams) == before


def test_no_text_is_smaller_than_seven_points():
    assert min(value for key, value in paper.STYLE.items() if key.endswith("size")) >= 7


def test_colours_differ_for_red_green_blind_readers():
    """Simulated by Machado 2009, severity 1: no two colours come close in RGB."""
    protan = np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]])
    deutan = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
    rgb = np.array([[int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)] for color in paper.COLORS])
    for matrix in (np.eye(3), protan, deutan):
        seen = rgb @ matrix.T
        distances = np.linalg.norm(seen[:, None] - seen[None], axis=-1)[np.triu_indices(len(seen), 1)]
        assert distances.min() > 0.1


def test_equal_seeds_are_refused(make_run, tmp_path):
    runs = [make_run("a", 1), make_run("b", 2), make_run("c", 1)]
    expected = r"PPO, CartPole-v1 must have different seeds, but .*a and .*c both have seed 1: leave one"
    with pytest.raises(ValueError, match=expected):
        write_paper(runs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_equal_seeds_of_two_configurations_and_runs_without_seeds_are_fine(make_run, tmp_path, undrawn):
    write_paper([make_run("a", 1), make_run("b", 1, clip=0.1)], tmp_path / "out")
    write_paper([make_run("c", False), make_run("d", False)], tmp_path / "out")


def test_training_returns_are_compared_where_a_run_has_no_evaluation(make_run, tmp_path, undrawn):
    runs = [make_run("a", 1), make_run("b", 2, rows=NO_EVALUATION)]
    write_paper(runs, tmp_path / "out")
    table = (tmp_path / "out" / "table.tex").read_text()
    assert "Return of the last 100 training episodes" in table
    assert r"PPO & 2 & 200--400 & 8.00 & [2.00, 14.00] & 8.00" in table


def test_it_says_which_policy_was_evaluated(make_run, tmp_path, undrawn):
    old, greedy, sample, other = (make_run(name, seed) for seed, name in enumerate("abcd", 1))
    evaluated_by("greedy", greedy)
    evaluated_by("sample", sample, other)
    for runs, caption, row in (
        ([old, greedy], "Return of the greedy policy", "PPO & 2 &"),  # older runs did not say
        ([sample, other], "Return of the sampled policy", "PPO & 2 &"),
        ([old, sample], "Return of the policy evaluated", r"PPO, eval\_policy sample & 1 &"),
    ):
        write_paper(runs, tmp_path / "out")
        table = (tmp_path / "out" / "table.tex").read_text()
        assert caption in table
        assert row in table


def evaluated_by(policy, *runs):
    """Let the configurations of ``runs`` say what their evaluations played."""
    for run in runs:
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["data"]["init_args"]["eval_policy"] = policy
        (run / "config.yaml").write_text(yaml.safe_dump(config))


def test_run_without_any_return_is_refused(make_run, tmp_path):
    runs = [make_run("a", 1), make_run("b", 2, rows=["100,,1,1000,1,"])]
    with pytest.raises(ValueError, match=r"run .*b has no episode that ended, so there is no return: leave"):
        write_paper(runs, tmp_path / "out")


def test_environments_get_figures_of_their_own(make_run, tmp_path, undrawn):
    runs = [make_run("a", 1, env="CartPole-v1"), make_run("b", 1, env="ALE/Pong-v5", rows=NO_EVALUATION)]
    names = {path.name for path in write_paper(runs, tmp_path / "out") if path.suffix == ".pdf"}
    assert names == {
        "training_return_CartPole-v1.pdf",
        "evaluation_return_CartPole-v1.pdf",
        "training_return_ALE_Pong-v5.pdf",
    }
