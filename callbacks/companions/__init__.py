"""Companions: processes that serve TensorBoard or run ``wandb`` beside the trainer, without holding it up."""
