"""`python -m up42fs` is the `up42fs` command."""

import sys

# `-m` puts the current directory first. The package is found already, and its further imports must
# not be taken from the user's current directory.
if not sys.flags.safe_path:
    del sys.path[0]

from up42fs.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
