"""Typed answers to what callbacks ask of the trainer that they serve."""
