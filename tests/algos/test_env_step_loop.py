"""The private names of Lightning that ``env_step_loop.py`` uses.

What becomes of them in a run is tried in ``tests/test_lightning.py``.
"""

from lightning.pytorch import LightningModule
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.trainer.connectors.logger_connector.logger_connector import _LoggerConnector

from lit_rl.algos.env_step_loop import count_env_steps, is_row_due, publish
from tests.toys import make_trainer


def test_lightning_still_has_the_private_names():
    trainer = make_trainer()
    assert type(trainer.fit_loop.epoch_loop) is _TrainingEpochLoop
    assert type(trainer._logger_connector) is _LoggerConnector
    assert isinstance(_TrainingEpochLoop.global_step, property)
    assert isinstance(_LoggerConnector.should_update_logs, property)
    assert trainer.fit_loop.epoch_loop._batches_that_stepped == 0
    connector = vars(trainer._logger_connector)
    assert {"_callback_metrics", "_logged_metrics", "_progress_bar_metrics"} <= set(connector)


def test_env_steps_are_counted_and_values_published():
    trainer, module = make_trainer(), LightningModule()
    count_env_steps(trainer)
    loop = trainer.fit_loop.epoch_loop
    trainer.strategy._lightning_module = module
    loop._batches_that_stepped += 3
    assert (trainer.global_step, loop._batches_that_stepped) == (0, 3)  # this module counts no env steps
    module.env_steps = 80
    loop._batches_that_stepped += 1
    assert (trainer.global_step, loop._batches_that_stepped) == (80, 80)
    publish(trainer, {"episode/return_mean": 0.1, "loss/policy": 2.0})
    assert {name: value.item() for name, value in trainer.callback_metrics.items()} == {
        "episode/return_mean": 0.1,
        "loss/policy": 2.0,
    }
    assert trainer.logged_metrics.keys() == trainer.callback_metrics.keys()
    assert trainer.progress_bar_metrics == {"episode/return_mean": 0.1}


def test_rows_are_due_by_batches():
    trainer = make_trainer(log_every_n_steps=3)
    count_env_steps(trainer)
    trainer.training = True
    due = []
    for _ in range(6):
        trainer.fit_loop.epoch_loop.batch_progress.increment_ready()
        due.append(is_row_due(trainer))
    assert due == [False, False, True, False, False, True]
