from __future__ import annotations

import torch

from lit_rl.algos.action_box import ActionBox
from lit_rl.algos.minibatches import minibatches
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
