"""Packed members and compressed tars, inflated once and read at random.

Knows engines, seek points and the bytes between them; nothing of links, HTTP or names.
Start reading at `source`.
"""
