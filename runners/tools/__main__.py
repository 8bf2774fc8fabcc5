"""Run a worker of some categories, or print the catalogue: `python -m runners.tools --help`."""

from __future__ import annotations

import argparse
import sys

import msgspec

from runners.tools import catalogue, worker
from runners.tools.signature import Address


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    described = argparse.ArgumentParser(prog="python -m runners.tools", description=__doc__)
    described.add_argument("categories", nargs="?", default="", help="CATEGORY[,CATEGORY]")
    described.add_argument("--root", default="", help="the workspace's directory; none: tools have no files")
    described.add_argument(
        "--undo", default="", help="the directory that keeps before-images, outside the workspace"
    )
    described.add_argument(
        "--socket", type=int, default=-1, help="an inherited socket, instead of stdin and stdout"
    )
    described.add_argument(
        "--unsandboxed", action="store_true", help="let tools write where Landlock is missing"
    )
    described.add_argument(
        "--way-out",
        type=address,
        help="HOST:PORT of the proxy that leads to hosts; none: tools reach no host",
    )
    described.add_argument("--catalogue", action="store_true", help="print all definitions as JSON")
    return described


def address(text: str) -> Address:
    """Read HOST:PORT. Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not host:
        raise ValueError(text)
    return host, int(port)


def main() -> None:
    """Serve until the input ends, or print the catalogue."""
    options = parser().parse_args()
    if options.catalogue:
        sys.stdout.buffer.write(msgspec.json.encode(catalogue.definitions()) + b"\n")
        return
    categories = tuple(filter(None, options.categories.split(",")))
    if not categories:
        raise SystemExit("runners.tools: no category; give CATEGORY[,CATEGORY] or --catalogue")
    try:
        worker.serve(
            worker.Settings(
                categories, options.root, options.undo, options.socket, options.unsandboxed, options.way_out
            )
        )
    except (OSError, ValueError) as error:
        raise SystemExit(f"runners.tools: {error}") from error


if __name__ == "__main__":
    main()
