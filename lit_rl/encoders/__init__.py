"""Encoders, which turn observations into features."""
