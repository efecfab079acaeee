import pytest

from lit_rl.callbacks.recorder.classify import classify, words


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("loss/actorLoss_2", ["loss", "actor", "loss", "2"]),
        ("PPOLoss", ["ppo", "loss"]),
        ("gnn.node-loss", ["gnn", "node", "loss"]),
        ("", []),
    ],
)
def test_words(name, expected):
    assert words(name) == expected


@pytest.mark.parametrize(
    ("name", "algorithm", "network"),
    [
        ("attention_loss", None, "attention"),
        ("attn/entropy", None, "attention"),
        ("graphLoss", "ppo", "gnn"),
        ("edge_loss", None, "gnn"),
        ("actor_loss", None, "ppo"),
        ("actor_loss", "sac", "sac"),
        ("loss/policy", "sac", "sac"),
        ("loss/value", "ppo", "ppo"),
        ("loss/policy", "hmasd", "hmasd"),
        ("sac_actor_loss", "ppo", "sac"),
        ("sac/critic_loss", "ppo", "sac"),
        ("alpha_loss", None, "sac"),
        ("temperature", "sac", "sac"),
        ("loss/total", "ppo", "total"),
        # letters within a word decide nothing
        ("support_loss", None, "other"),
        ("opponent_loss", "ppo", "other"),
        ("disaccord_loss", "sac", "other"),
        ("nodes", None, "other"),
        ("accuracy", "ppo", "other"),
        ("loss/disentanglement", "ppo", "other"),
    ],
)
def test_network_of_a_name(name, algorithm, network):
    assert classify(name, algorithm) == network


def test_explicit_network_decides():
    assert classify("sac/alpha_loss", "sac", network="mine") == "mine"
