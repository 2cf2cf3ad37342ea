"""One mount, from signing in to unmounting: builds the layers, serves them, takes them down.

`mount` is the only module that knows every layer. It decides nothing that belongs to one of them.
"""
