"""Learners: LightningModules that turn a batch of experience into a better policy."""
