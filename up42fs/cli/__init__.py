"""Commands: parse arguments, one call each."""
