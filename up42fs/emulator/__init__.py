"""An emulator of UP42 and its object store: for the demo, for tests, for benchmarks.

Imports no other part of up42fs, so that client and service cannot share a mistake.
"""

from up42fs.emulator.content import pattern_bytes
from up42fs.emulator.faults import Faults
from up42fs.emulator.remote import Remote
from up42fs.emulator.server import EmulatorSettings, run, serve
from up42fs.emulator.service import Urls
from up42fs.emulator.storage import EmulatedAccount, Storage
from up42fs.emulator.synthetic import SyntheticSize

__all__ = [
    "EmulatedAccount",
    "EmulatorSettings",
    "Faults",
    "Remote",
    "Storage",
    "SyntheticSize",
    "Urls",
    "pattern_bytes",
    "run",
    "serve",
]
