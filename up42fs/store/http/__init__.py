"""Ranges over HTTP: leases of presigned links, libcurl and its threads, retries, races, the version
pin.
"""
