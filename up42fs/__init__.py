"""up42fs: UP42 storage as a file system.

`FileSystem` is the storage for Python programs; it is imported when it is first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name != "FileSystem":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return import_module("up42fs.library.filesystem").FileSystem
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "fsspec":
            raise
        cure = "up42fs.FileSystem needs fsspec; run: pip install 'up42fs[fsspec]'"
        raise ImportError(cure) from None
