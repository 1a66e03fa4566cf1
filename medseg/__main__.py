"""`python -m medseg` is `medseg`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line on this process's arguments; returns the exit code."""
    from medseg.cli.app import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
