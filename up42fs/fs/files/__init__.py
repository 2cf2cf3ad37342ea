"""Open files: sizes, the page cache, crowd limits, who read what, prefetching along a directory."""
