"""Members of archives as objects of the store: where their bytes come from, and how they are read.

A stored member is a view on its archive's bytes; a packed one is inflated into bytes of its own.
Knows offsets in archives, not their directories: `up42fs.archive` parses those. Start reading at
`extent`.
"""
