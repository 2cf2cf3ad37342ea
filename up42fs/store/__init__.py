"""Moves bytes: leases, ranges, versions, caches. Knows nothing of UP42's API or of inodes."""
