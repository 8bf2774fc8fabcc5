"""Try escapes, each in a process of its own, and print which got out: `python -m escapes FACTS NAME ...`."""

from __future__ import annotations

import json
import os
import signal
import sys

from escapes.all_cases import CASES
from escapes.case import Escape, Facts

SECONDS = 10


def gets_out(case: Escape, facts: Facts) -> bool:
    """Try one: out by a true answer, held by a false one, an error, a signal, or silence."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(SECONDS)
        status = 1
        try:
            status = 0 if case.attempt(facts) else 1
        except BaseException as error:
            sys.stderr.write(f"{case.name}: {error}\n")
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        facts = json.load(file)
    wanted = set(sys.argv[2:])
    print(json.dumps([case.name for case in CASES if case.name in wanted and gets_out(case, facts)]))


main()
