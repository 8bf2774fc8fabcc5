"""A day of use of the secrets vault, and a look for every value that was in it, wherever bytes are kept or shown.

`python bench/sealed_secrets.py [--quick] [--json FILE]`, as root: its servers listen at port 443. The same look finds
a value that is planted, in each of six forms. `--quick` rotates once.
"""

from __future__ import annotations

import base64
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))

from _harness import Row, run
from machine_lacks import is_lacking
from secret_day import IN_FLIGHT, Day, day, live, live_on
from secret_scan import Scan
from software_tpm import SoftwareTpm

ROTATIONS = 10
SEALINGS = 20
COMMAND = "python bench/sealed_secrets.py"
PLANTS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda value: value,
    "base64": lambda value: base64.b64encode(b"Bearer " + value),
    "hex": lambda value: value.hex().encode(),
    "URL-encoded": lambda value: quote(value.decode(), safe="").encode(),
    "over two lines": lambda value: value[:9] + b"\n    " + value[9:],
    "base64 over two lines": lambda value: base64.b64encode(value)[:9] + b"\\n" + base64.b64encode(value)[9:],
}


def measure(quick: bool) -> Sequence[Row]:
    """Return the rows."""
    with day() as one:
        counted = live(one)
        statuses = list(counted.statuses)
        for _ in range(0 if quick else ROTATIONS - 1):
            statuses += one.rotate_in_flight()[0]
        live_on(one)
        scan = Scan(*one.values)
        began = time.monotonic()
        leaks = one.leaks(scan)
        seconds = time.monotonic() - began
        for leak in leaks:
            print(f"LEAK     {leak.place}: {leak.form}")
        planted = list(_planted(one, scan))
        rows = [
            _row("values found after a day of use", len(leaks), "", "0", not leaks, scan.places),
            _row("bytes looked at", scan.bytes, "", "", None, scan.places),
            _row("seconds of the look", seconds, "s", "", None, 1),
            _row("forms planted and not found", planted.count(False), "", "0", all(planted), len(planted)),
            _row(
                f"turns failed around rotations, {IN_FLIGHT} in flight at each",
                sum(status != 200 for status in statuses), "", "0", set(statuses) == {200}, len(statuses),
            ),
            _cost(one),
        ]  # fmt: skip
    return [*rows, *_tpm()]


def _row(claim: str, value: float, unit: str, goal: str, met: bool | None, n: int) -> Row:
    return Row(claim, value, unit, goal, met, {}, n, COMMAND)


def _planted(one: Day, scan: Scan) -> Iterator[bool]:
    """Plant a copy of a value in a log in each form, and tell if it was found there."""
    whole = one.house.log.read_bytes()
    for plant in PLANTS.values():
        one.house.log.write_bytes(whole + plant(one.values[0]) + b"\n")
        yield any(leak.place == str(one.house.log) for leak in scan.file(one.house.log))
    one.house.log.write_bytes(whole)


def _cost(one: Day) -> Row:
    """How long a person waits for `epactl secret test`, which opens one by the host key."""
    taken = []
    for _ in range(SEALINGS):
        began = time.monotonic()
        one.epactl("secret", "test", "token")
        taken.append((time.monotonic() - began) * 1e3)
    return _row(
        "an opening by the host key, with epactl", statistics.median(taken), "ms", "", None, len(taken)
    )


def _tpm() -> Iterator[Row]:
    """What a TPM that is not this one, another name and a flipped byte open."""
    import asyncio  # noqa: PLC0415

    from epad.secrets.errors import DamagedError  # noqa: PLC0415
    from epad.secrets.systemd_creds import SystemdCreds  # noqa: PLC0415

    if is_lacking("a software TPM"):
        yield Row("opened by another TPM, by another name, or changed", None, "", "0", None, {}, 0, COMMAND)
        return

    def opens(tpm: SoftwareTpm, name: str, sealed: bytes) -> bool:
        tpm.restart()  # it has three sessions
        try:
            asyncio.run(SystemdCreds("tpm2", tpm.environment).open(name, sealed))
        except DamagedError:
            return False
        return True

    with tempfile.TemporaryDirectory() as place:
        with SoftwareTpm(Path(place, "one")) as tpm:
            sealed = asyncio.run(SystemdCreds("tpm2", tpm.environment).seal("token", os.urandom(32)))
            control = opens(tpm, "token", sealed)
            wrong = [opens(tpm, "other", sealed)]
            for position in range(0, len(sealed), len(sealed) // SEALINGS):
                changed = bytearray(sealed)
                changed[position] ^= 1
                wrong.append(opens(tpm, "token", bytes(changed)))
        with SoftwareTpm(Path(place, "another")) as other:
            wrong.append(opens(other, "token", sealed))
    claim = "opened by another TPM, by another name, or with a byte changed"
    yield _row(claim, sum(wrong), "", "0", control and not any(wrong), len(wrong))


if __name__ == "__main__":
    sys.exit(run("sealed_secrets", measure))
