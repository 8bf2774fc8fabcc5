"""`python -m runners.quantize`, the same as `hsaq`."""

import sys

from runners.quantize.cli import main

if __name__ == "__main__":
    sys.exit(main())
