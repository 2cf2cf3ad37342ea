"""The fixtures of this ring."""

from emulator_fixtures import emulator, sample_dir, start

__all__ = ["emulator", "sample_dir", "start"]
