"""The semantics of the mount: names, inodes, attributes, handles. Knows no FUSE binding."""
