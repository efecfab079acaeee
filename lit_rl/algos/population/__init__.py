"""A population of policies, each for its own body, trained in one batch."""
