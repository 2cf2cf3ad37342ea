"""The tree: inodes, nodes, names, frozen listings, handles.

Answers from memory alone. Knows nothing of bytes, networks or the kernel.
"""
