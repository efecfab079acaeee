from __future__ import annotations

import torch

from lit_rl.algos.action_box import ActionBox
from lit_rl.algos.minibatches import minibatches
from lit_rl.normalize import ObservationNorm
from tests.replay_toys import SPEC, make_batch


def test_minibatches_are_the_rows_of_the_batch_with_scaled_actions():
    batch = make_batch(num_updates=3, batch_size=4)
    batch["next_obs"] = {"a": torch.randn(3, 4, 1), "b": {"c": torch.randn(3, 4, 2)}}
    batch["action"][1, 0] = torch.tensor([-2.0, 10.0])
    found = list(minibatches(batch, ActionBox(SPEC, "SAC")))
    assert len(found) == 3
    for m, minibatch in enumerate(found):
        for name in ("obs", "reward", "discount"):
            assert torch.equal(minibatch[name], batch[name][m])
        assert torch.equal(minibatch["next_obs"]["b"]["c"], batch["next_obs"]["b"]["c"][m])
        assert minibatch["action"].abs().max() <= 1
    assert found[1]["action"][0].tolist() == [-1, 1]


def test_observations_are_normalised_and_the_batch_stays_as_it_was():
    batch, norm = make_batch(num_updates=2, batch_size=4), ObservationNorm(SPEC.observation)
    before = batch["obs"].clone()
    norm.update(torch.tensor([[1.0, 0.0, 0.0], [5.0, 0.0, 8.0]]))  # means 3, 0, 4 and deviations 2, 0, 4
    first = next(minibatches(batch, ActionBox(SPEC, "SAC"), norm))
    for name in ("obs", "next_obs"):
        expected = (batch[name][0] - torch.tensor([3.0, 0.0, 4.0])) / torch.tensor([2.0, 1e-4, 4.0])
        torch.testing.assert_close(first[name], expected.clamp(-10, 10))
    assert torch.equal(batch["obs"], before)
