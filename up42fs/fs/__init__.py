"""What the mount means: names, inodes, attributes, handles. Knows no FUSE binding."""
