"""One mount, from sign-in to unmounting: starts the engine, serves it, shuts it down.

`mount` is the only module that knows both the engine and FUSE. It decides nothing that belongs to
either.
"""
