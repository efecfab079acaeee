"""Workers of a collector as actors of Ray, on this machine or on many."""
