"""Encoders: turn structured observations (sets, graphs, sequences) into features."""
