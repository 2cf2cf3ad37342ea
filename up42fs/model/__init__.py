"""UP42's data as values: names, STAC items and documents, geometries, queries, intended edits.

Pure: a module here takes values and returns values. Nothing here waits, reads a clock, logs, or
opens anything; a contract in `pyproject.toml` enforces that.
"""
