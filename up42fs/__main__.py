"""`python -m up42fs` is the `up42fs` command."""

import sys

from up42fs.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
