"""Puts up42fs where the system looks for it: command, manual pages, completions, units, helpers.

Whether the program came by pip, pipx or a clone: `up42fs setup` (for a clone `contrib/install`,
which makes a copy first) puts the rest, keeps a list of it, and takes away exactly that.

Needs the standard library alone, and knows nothing of the rest of up42fs: an installation whose
environment is broken can still be removed (`python3 -m up42fs.setup --remove`).
"""
