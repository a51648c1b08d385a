"""Restyle raw vocal takes with a checkout that is not installed; `python sample.py --help` says how."""

import sys

from restyler.sample import main

if __name__ == "__main__":
    sys.exit(main())
