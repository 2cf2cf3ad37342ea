"""The disk cache: a sparse file for each object, holding one version, each cell with its checksum.

A cell that does not verify is fetched again, so crashes, full disks and several mounts are
harmless.
"""
