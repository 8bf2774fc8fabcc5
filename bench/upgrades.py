"""200 exchanges of a daemon under load: nothing that it supervises, wrote or counted may notice.

    python bench/upgrades.py --json bench/results/upgrades.json      # about 15 minutes; --quick: 12 exchanges

Clients ask without a pause, by whole answers and by streams, and ask again where nothing answers. Meanwhile the daemon
is restarted, installed again, upgraded, killed and reloaded at random (the seed is printed), as a service of a real
systemd in a box, or, where there can be none, as a plain process. A reload changes the server that is asked, its price,
and a door.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _gateway_targets import free_port
from _harness import Row, run
from _upgrades_hosts import Host, installed, plain

SEED = 20261129
EXCHANGES, QUICK_EXCHANGES = 200, 12
MOST_AWAY_SECONDS = 2.0
BOUNDED_TOKENS = 12_000
"""A budget that is spent before the campaign ends; its detectors only tell, so that the limit alone is tried."""
COMMAND = "python bench/upgrades.py"
_BETWEEN_SECONDS = (0.2, 3.0)
_END_SECONDS = 60.0

CONFIG = """
[gateway]
listen = "127.0.0.1:{gateway}"
[web]
listen = ""
[metrics]
listen = "127.0.0.1:0"
[upstreams.stub]
url = "http://127.0.0.1:{upstream}/v1"
dialects = ["openai"]
server = "openai"
[prices.free]
input = {price}
output = 1.0
[subsystems.free]
kind = "client"
essential = true
budget = {{ tokens_per_day = 1000000000 }}
{listen}
[subsystems.bounded]
kind = "client"
budget = {{ tokens_per_day = {bounded} }}
[subsystems.bounded.enforce]
burn_rate = "observe"
hard_limit = "observe"
[subsystems.steady]
command = ["sleep", "98765"]
[subsystems.family]
command = ["sh", "-c", "sleep 98764 & exec sleep 98763"]
[subsystems.printing]
command = ["sh", "-c", "while :; do echo x; read -t 1 x < /dev/zero; sleep 0.5; done"]
"""


@dataclass(frozen=True)
class Places:
    """Ports: of two model servers, the gateway, and one subsystem's own door."""

    upstreams: tuple[int, int]
    gateway: int
    door: int

    def text(self, number: int) -> str:
        """The configuration of one reload: another server, price and door than that of the one before."""
        odd = number % 2
        return CONFIG.format(
            gateway=self.gateway,
            upstream=self.upstreams[odd],
            price=f"{1 + odd}.0",
            listen=f'listen = "127.0.0.1:{self.door}"' if odd else "",
            bounded=BOUNDED_TOKENS,
        )


@dataclass
class Campaign:
    """What is done to one epad, and what comes of it."""

    host: Host
    places: Places
    times: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    reloads: int = 0

    def run(self, exchanges: int, chance: random.Random) -> None:
        """Exchange again and again, and look at the children after each."""
        before = self._steady()
        for number in range(1, exchanges + 1):
            kind = chance.choice(self.host.kinds)
            if "reload" in kind:
                self.reloads += 1
                self.host.configure(self.places.text(self.reloads))
            began = time.time()
            self.host.exchange(kind)
            self.times.setdefault(kind, []).append((began, time.time()))
            now = self._steady()
            if now != before:
                self.lost.append(f"{number}, {kind}: {before} -> {now}")
                before = now
            if number % 10 == 0:
                print(f"{number} of {exchanges} exchanges", flush=True)
            time.sleep(chance.uniform(*_BETWEEN_SECONDS))

    def _steady(self) -> Mapping[str, AbstractSet[int]]:
        """The processes that live as long as their subsystem; of one that makes others all the time only the first."""
        found = self.host.children()
        return {name: ({min(pids)} if name == "printing" and pids else pids) for name, pids in found.items()}

    def away(self, spans: Sequence[tuple[float, float]]) -> dict[str, list[float]]:
        """How long nothing answered, by what was done then."""
        by_kind: dict[str, list[float]] = {}
        for kind, times in self.times.items():
            for began, ended in times:
                seconds = [b - a for a, b in spans if a < ended + 1.0 and b > began]
                by_kind.setdefault(kind, []).append(max(seconds, default=0.0))
        return by_kind


def measure(quick: bool) -> list[Row]:
    """Run the campaign where it can be run best."""
    try:
        return _campaign(installed, quick)
    except pytest.skip.Exception as skipped:
        print(f"as a plain process: {skipped}")
        return _campaign(plain, quick)


def _campaign(where: Callable[[str], AbstractContextManager[Host]], quick: bool) -> list[Row]:
    seed, exchanges = SEED, QUICK_EXCHANGES if quick else EXCHANGES
    ports, gateway, door = (free_port(), free_port()), free_port(), free_port()
    places = Places(ports, gateway, door)
    with where(places.text(0)) as host:
        campaign = Campaign(host, places)
        place = f"{host.state}-load"
        config = {
            "ports": ports,
            "url": f"http://127.0.0.1:{gateway}",
            "keys": f"{host.state}/keys",
            "clients": {"free": {"many": 4, "pause": 0.01}, "bounded": {"many": 2, "pause": exchanges / 200}},
            "stop": f"{place}.stop",
            "report": f"{place}.report",
        }
        print(f"{exchanges} exchanges of a {host.name}, seed {seed}")
        load = host.load(config, f"{place}.json")
        try:
            time.sleep(2.0)
            campaign.run(exchanges, random.Random(seed))
            time.sleep(2.0)
            host.file(f"{place}.stop").touch()
            load.wait(_END_SECONDS)
            host.stop()
        finally:
            load.kill()
        return _rows(campaign, host.file(f"{place}.report").read_text(), exchanges)


def _rows(campaign: Campaign, report: str, exchanges: int) -> list[Row]:
    said = json.loads(report)
    print(f"answers by status: {said['statuses']}")
    acknowledged = [turn for turns in said["acknowledged"].values() for turn in turns]
    kept, closed = _turns(campaign.host)
    missing = [turn for turn in acknowledged if turn not in kept]
    over = said["made"].get("bounded", 0) - BOUNDED_TOKENS
    away = campaign.away(said["away"])
    peers: dict[str, float | str] = {
        f"{kind}, {len(seconds)} times": f"median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s"
        for kind, seconds in sorted(away.items())
    }
    longest = max((max(seconds) for seconds in away.values()), default=0.0)
    for line in campaign.lost:
        print(f"children: {line}")
    return [
        Row("children lost or doubled", len(campaign.lost), "", "0", not campaign.lost, {}, exchanges, COMMAND),
        Row(
            "acknowledged turns that are not in the ledger",
            len(missing), "", "0", not missing and len(acknowledged) > exchanges,
            # Killed within 5 ms of its answer a turn stays open, and counts with all that it had reserved.
            {"acknowledged": len(acknowledged), "of them not closed": len({*acknowledged} - closed)},
            len(acknowledged), COMMAND,
        ),
        Row(
            "tokens made over a budget, by the server's own count",
            max(0, over), "", "0", over <= 0,
            {"made": said["made"].get("bounded", 0), "budget": BOUNDED_TOKENS}, exchanges, COMMAND,
        ),
        Row(
            "longest closed door, as a client that asks again at once sees it",
            longest, "s", f"{MOST_AWAY_SECONDS:g}", longest <= MOST_AWAY_SECONDS, peers, exchanges, COMMAND,
        ),
    ]  # fmt: skip


def _turns(host: Host) -> tuple[set[str], set[str]]:
    """The turns that the ledger knows, and those of them that are closed."""
    with tempfile.TemporaryDirectory() as directory:
        # SQLite would look for its files where the box's paths lead on this machine.
        for name in ("ledger.db", "ledger.db-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(host.file(f"{host.state}/{name}"), Path(directory, name))
        with contextlib.closing(sqlite3.connect(Path(directory, "ledger.db"))) as database:
            known = set(database.execute("SELECT turn FROM record WHERE turn IS NOT NULL"))
            closed = set(database.execute("SELECT turn FROM record WHERE kind = 2"))
            return {turn for (turn,) in known}, {turn for (turn,) in closed}


if __name__ == "__main__":
    raise SystemExit(run("upgrades", measure))
