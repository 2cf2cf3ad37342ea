"""Sample storage."""

from __future__ import annotations

import os
from pathlib import Path

from up42fs.emulator.storage import Account, Storage
from up42fs.emulator.synthetic import SyntheticSize, synthetic_storage


def default_sample_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "up42fs" / "demo-1"


def sample_storage(account: Account, directory: Path) -> Storage:
    return synthetic_storage(account, SyntheticSize(20, 4, 3))
