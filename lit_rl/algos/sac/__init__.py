"""Soft actor-critic: the learner, its networks and its losses."""
