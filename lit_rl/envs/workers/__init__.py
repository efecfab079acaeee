"""Worker processes over which environments are divided, and the memory that they share."""
