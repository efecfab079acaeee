"""``lit-rl async``: one command that starts a learner and its actors, and keeps them running.

Nothing here loads torch: the processes that it starts do.
"""
