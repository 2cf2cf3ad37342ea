"""Members of archives: which names are archives, where their members lie, and under which names.

Pure: bytes in, values out. A module here knows the layout of zips, tars and packed streams, and
neither stores, file systems nor clocks. Archives are hostile input: a malformed one raises an
`ArchiveError`, and no input costs more time or memory than the limits beside each parser allow.
Start reading at `table`.
"""
