"""``python3 -m labkit``: what ``./lab`` calls once the system's Python is there."""

import sys

from labkit.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
