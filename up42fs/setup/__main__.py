"""`python -m up42fs.setup`: the command `up42fs setup` by the standard library alone."""

from __future__ import annotations

import argparse
import sys

from up42fs.setup.command import add_arguments, main
from up42fs.setup.plan import SetupError

parser = argparse.ArgumentParser(prog="up42fs setup")
add_arguments(parser)
try:
    sys.exit(main(parser.parse_args()))
except (SetupError, OSError) as error:
    sys.exit(f"up42fs: {error}")
