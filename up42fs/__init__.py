"""up42fs: UP42 storage as a file system."""

__version__ = "0.1.0"
