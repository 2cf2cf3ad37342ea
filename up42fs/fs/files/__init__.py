"""Open files: sizes, the page cache, crowd limits, read accounts, prefetching along a directory."""
