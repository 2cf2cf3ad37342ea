"""`python -m up42fs.emulator` runs the emulator alone."""

import argparse
import sys

from up42fs.emulator import command


def main() -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="up42fs emulator", description=command.DESCRIPTION)
    command.add_arguments(parser)
    return command.main(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
