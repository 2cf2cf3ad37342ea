"""The parts of the tree beside the four views: transformed files, `stac/`, `search/`, footprints.

Each branch offers what `fs.tree.branch` asks for: nodes by name, listings, attributes. None knows
another one.
"""
