"""The child's side of a prober: one JSON line in is one request, one JSON line out its answer.

The end of the input, or of the parent, is the end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, TextIO


def serve(read: Callable[[], dict[str, Any]], requests: TextIO, answers: TextIO) -> None:
    """Answer until the input ends."""
    for line in requests:
        request = json.loads(line)
        print(json.dumps({"id": request["id"], **read()}), file=answers, flush=True)


def main(read: Callable[[], dict[str, Any]]) -> None:
    """Serve on the standard streams."""
    try:
        serve(read, sys.stdin, sys.stdout)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(0)
