"""The catalogue on disk: an SQLite file that a later mount shows before it asks UP42.

The service remains the truth: a snapshot that cannot be read is rebuilt, one that cannot be written
is reported.
"""
