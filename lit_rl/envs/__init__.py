"""Environments: Gymnasium, PettingZoo and native batched ones, all seen as a ``VectorEnv``."""
