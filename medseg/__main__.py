"""`python -m medseg` is `medseg`."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command line on this process's arguments; returns the exit code."""
    _speak_utf8()
    from medseg.cli.app import run

    return run(sys.argv[1:])


def _speak_utf8() -> None:
    """Begin again in Python's UTF-8 mode where the language of the system spells files otherwise.

    Without it `LANG=de_DE.ISO-8859-1` makes other case names of the same files, and a name may not be writable at all.
    """
    if sys.getfilesystemencoding() != "utf-8" and "MEDSEG_UTF8" not in os.environ:
        os.execve(
            sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONUTF8": "1", "MEDSEG_UTF8": "1"}
        )


if __name__ == "__main__":
    sys.exit(main())
