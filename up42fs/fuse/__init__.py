"""Translates between the kernel's FUSE protocol and `fs`; the only importer of pyfuse3."""
