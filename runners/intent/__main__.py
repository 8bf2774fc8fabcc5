"""`python -m runners.intent`; see `cli.py`."""

from __future__ import annotations

import sys

from runners.intent.needs import missing

if __name__ == "__main__":
    if why := missing():
        print(f"runners.intent: {why}", file=sys.stderr)
        sys.exit(1)
    from runners.intent.cli import main

    sys.exit(main())
