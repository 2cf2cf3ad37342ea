"""The budget of bytes that may be fetched, counted by all mounts of an account together."""
