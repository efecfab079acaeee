"""LightningDataModules: turn environments into batches of experience."""
