"""The program `epad`: `epad mcp` is a relay that imports next to nothing; all else is `epad/daemon/cli.py`."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run one command; return the exit status."""
    if sys.argv[1:2] == ["mcp"]:
        from epad.tools import relay  # noqa: PLC0415  # it starts in an instant, without what the others need

        return relay.main(sys.argv[2:], os.environ)
    from epad.daemon import cli  # noqa: PLC0415

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
