"""Every row of bench/containment.py by its name.

`python bench/_containment_rows.py SHARE ROW...` plays rows with the `epad` that PYTHONPATH names and prints a JSON
line for each, so that the code of a former commit can be asked the same. SHARE is of the usual number of requests.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import _containment_daily  # noqa: F401  adds its rows, as the next two do
import _containment_excess  # noqa: F401
import _containment_memory  # noqa: F401
import _containment_others  # noqa: F401
import _containment_trouble  # noqa: F401
import _containment_unseen  # noqa: F401
from _containment_honest import ROWS as HONEST
from _containment_runaway import PLANTS, RUNAWAYS
from _containment_world import Workload, play
from virtual_time import run_virtually

REQUESTS = 240


def find(name: str, share: float) -> Workload:
    """A row with this share of its requests, its detector switched off if a plant is named behind a +."""
    name, _, plant = name.partition("+")
    if name in RUNAWAYS:
        row = RUNAWAYS[name]()
        if not plant:
            return row
        own = {name: how for name, how in row.enforce.items() if name != plant}
        return replace(row, toml=f"{row.toml}\n{PLANTS[plant]}", enforce=own, after=10.0)
    return HONEST[name](max(24, int(REQUESTS * share)))


def main(names: Sequence[str], share: float) -> None:
    """Play these rows; a row that cannot be played says why."""
    for name in names:
        row, began = find(name, share), time.process_time()
        try:
            seen = run_virtually(partial(play, row=row), 120.0)
        except BaseException:
            seen = {"error": traceback.format_exc()[-2_000:]}
        print(
            json.dumps({**seen, "name": name, "cpu_seconds": round(time.process_time() - began, 2)}),
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[2:], float(sys.argv[1]))
