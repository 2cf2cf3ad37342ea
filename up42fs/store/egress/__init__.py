"""The download budget, shared by all mounts of an account."""
