"""Settings that are refused before anything is made."""

import pytest
from jsonargparse import Namespace

from lit_rl.cli.errors import CommandError
from lit_rl.cli.requirements import check_classes, check_nodes, check_seed


@pytest.mark.parametrize("seed", [-1, 2**32, 10**30, None])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(CommandError, match=r"^seed_everything = .*, expected 0 <= seed_everything"):
        check_seed(seed)


def test_seeds_that_numpy_takes():
    for seed in (0, 2**32 - 1, True, False):
        check_seed(seed)


@pytest.fixture
def alone(monkeypatch):
    for name in ("MASTER_ADDR", "TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_PROCID", "RANK"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_nodes_that_nobody_starts_are_refused(alone):
    with pytest.raises(CommandError, match=r"num_nodes = 2 needs a launcher .* it would wait"):
        check_nodes(2)
    with pytest.raises(CommandError, match=r"trainer\.num_nodes = 0, expected num_nodes >= 1"):
        check_nodes(0)
    check_nodes(1)


def test_nodes_of_a_launcher_are_taken(alone):
    alone.setenv("MASTER_ADDR", "10.0.0.1")
    check_nodes(2)
    alone.delenv("MASTER_ADDR")
    alone.setenv("TORCHELASTIC_RUN_ID", "x")
    alone.setenv("RANK", "1")
    check_nodes(2)


def test_a_configuration_without_the_class_of_its_learner_is_refused():
    data, base = Namespace(class_path="lit_rl.SomeData"), Namespace(class_path="lit_rl.x.RLModule")
    with pytest.raises(
        CommandError, match=r"^model\.class_path: expected the class of a learner, such as PPO"
    ):
        check_classes(Namespace(model=base, data=data))
    model, base = Namespace(class_path="lit_rl.PPO"), Namespace(class_path="lightning.LightningDataModule")
    with pytest.raises(CommandError, match=r"^data\.class_path: expected the class of a data module"):
        check_classes(Namespace(model=model, data=base))
    check_classes(Namespace(model=model, data=data))
    reader = Namespace(class_path="torch.nn.Module")
    gnn = Namespace(class_path="lit_rl.x.GNN", init_args=Namespace(reader=reader))
    model = Namespace(class_path="lit_rl.PPO", init_args=Namespace(encoder=gnn))
    with pytest.raises(CommandError, match=r"^model\.encoder\.reader\.class_path: expected the class"):
        check_classes(Namespace(model=model, data=data))
