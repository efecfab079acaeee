"""What ``check_vector_env`` plays, records and compares."""
