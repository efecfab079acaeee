"""Collection in worker processes that act and step, with weights and rollouts in shared memory."""
