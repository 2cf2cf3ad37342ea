"""Ranged GETs over HTTP: link leases, libcurl and its threads, retries, hedges, version pins."""
