"""Ranged reads of stored objects: leases, ranges, version pins, memory and disk caches.

Knows nothing of UP42's API or of inodes.
"""
