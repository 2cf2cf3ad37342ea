"""Commands that work on the storage without a mount: ls, find, info, cat, cp, url.

Each opens an engine on demand, asks what its paths need, and prints. They know no FUSE.
"""
