"""Actors that act elsewhere (a robot, another machine, another process) and the learner that they feed.

The learner's data module is ``RemoteReplayDataModule``; actors are started by ``lit-rl act``. Whatever an
actor needs imports no torch. Everything on the wire is plain numbers and JSON: nothing that arrives is
unpickled.
"""
