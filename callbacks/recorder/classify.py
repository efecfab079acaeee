"""Finds the network that a loss belongs to, by whole words: ``support_loss`` is no loss of PPO."""

from __future__ import annotations

import re

OTHER = "other"
"""Network of losses that no rule knows."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_BY_NAME = {
    "attention": {"attention", "attn"},
    "gnn": {"gnn", "graph", "node", "edge"},
    "total": {"total"},
    "ppo": {"ppo"},
    "sac": {"sac"},
}
_ROLES = {"policy", "actor", "critic", "value"}
_OF_SAC = {"alpha", "temperature"}


def words(name: str) -> list[str]:
    """Lower-case words: ``words("loss/actorLoss_2")`` is ``["loss", "actor", "loss", "2"]``."""
    return [word.lower() for word in _WORD.findall(name)]


def classify(name: str, algorithm: str | None = None, network: str | None = None) -> str:
    """The network of a loss; the first rule that fits decides.

    1. ``network``, if given.
    2. The part before a slash, if it names a network or the algorithm: ``sac/actor_loss``.
    3. A word that names a network: attention, attn; gnn, graph, node, edge; total; ppo; sac.
    4. The words policy, actor, critic and value: the algorithm's, PPO's when none is given.
    5. The words alpha and temperature: SAC.

    Args:
        name: Name of the loss.
        algorithm: Name of the learner in lower case. It decides whose ``actor_loss`` it is.
        network: Decides alone.

    Returns:
        Name of the network, ``other`` when no rule fits.
    """
    if network is not None:
        return network
    prefix = name.partition("/")[0].lower() if "/" in name else ""
    if prefix and prefix in (*_BY_NAME, algorithm):
        return prefix
    found = set(words(name))
    for candidate, names in _BY_NAME.items():
        if found & names:
            return candidate
    if found & _ROLES:
        return algorithm or "ppo"
    return "sac" if found & _OF_SAC else OTHER
