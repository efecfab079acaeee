"""Collectors: play a policy in a vector environment and record what happened."""
