"""Predicts which files of a directory are read next, and how much of each to prefetch.

Pure, like the rest of `readahead`: it learns the order in which a program walks through a
directory.
"""
