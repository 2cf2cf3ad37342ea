"""The parts of the tree beside the four views: transformed files, `stac/`, `search/`, footprints.

Each branch implements `fs.tree.branch`: nodes by name, listings, attributes. No branch knows
another one.
"""
