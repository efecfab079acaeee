"""Environments of Gymnasium: their spaces, their batches seen as a ``VectorEnv``, and their exact state."""
