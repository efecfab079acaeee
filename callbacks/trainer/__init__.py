"""What callbacks ask of the trainer they serve, and learn of each other by it."""
