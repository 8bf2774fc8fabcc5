"""`python -m runners.wargame`."""

import sys

from runners.wargame.cli import main

if __name__ == "__main__":
    sys.exit(main())
