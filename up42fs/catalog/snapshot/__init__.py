"""The catalogue on disk: an SQLite file that a later mount shows before its first request to UP42.

The service remains the truth: a snapshot that cannot be read is rebuilt, and one that cannot be
written is reported.
"""
