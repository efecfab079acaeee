"""Counts and timelines of the skills that a hierarchical policy assigns."""
