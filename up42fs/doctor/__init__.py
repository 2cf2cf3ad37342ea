"""Checks, each with its cure, for everything that can keep up42fs from working."""
