"""``lit-rl map-elites``: modes and flags of the earlier MAP-Elites trainers, which become a ``fit``."""
