"""Subcommands: each module parses its arguments and makes one call."""
