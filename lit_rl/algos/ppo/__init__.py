"""Proximal policy optimization: the learner, its policy, and the samples it trains on."""
