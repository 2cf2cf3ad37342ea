"""Settings and accounts: the option table, the sources of values, and the signed-in accounts.

Every option is declared once, in `options`; the command line, `-o`, the environment, the file and
the docs follow from it. Knows nothing of mounts, networks or trees.
"""
