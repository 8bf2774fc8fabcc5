"""Find the names that Tab may complete: of the running daemon, of the state directory, and of the configuration.

A daemon that is away, or files that may not be read, offer no names; a shell at Tab is no place for an error.
"""

from __future__ import annotations

import argparse
import os

from epad.api.client import ClientError, ControlClient
from epad.epactl import completion
from epad.epactl.arguments import PHASES
from epad.epactl.call import UsageError, find_socket, state_of
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from epad.configuration.load import Loaded
    from epad.epactl.call import Call

PATIENCE_SECONDS = 2.0  # a person waits at Tab
Offer = tuple[str, str]


def place_of(words: Sequence[str]) -> argparse.Namespace:
    """Read --socket and --state out of a command line that is not finished yet."""
    found = argparse.Namespace(socket=None, state=None)
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name in {"--socket", "--state"}:
            setattr(found, name.removeprefix("--"), (value if equals else following) or None)
    return found


class LiveValues:
    """Looks each kind of name up where it is kept, only once it is asked for."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._kinds: dict[str, Callable[[Sequence[str]], Iterable[Offer]]] = {
            completion.SUBSYSTEM: self._subsystems,
            completion.HOLDABLE: self._holdables,
            completion.DATASTORE: self._datastores,
            completion.SUBJECT: self._subjects,
            completion.SCOPE: self._scopes,
            completion.LIMIT: self._limits,
            completion.CHECKPOINT: self._checkpoints,
            completion.BUNDLE: self._bundles,
            completion.PART: self._parts,
            completion.KEY: self._keys,
            completion.THRESHOLD: self._thresholds,
        }

    def __call__(self, kind: str, given: Sequence[str]) -> list[Offer]:
        """List the values of a kind; empty where they cannot be had."""
        try:
            return list(self._kinds[kind](given))
        except (ClientError, UsageError, OSError, ValueError, LookupError):
            return []

    def _get(self, target: str) -> Any:
        socket = find_socket(self._call.arguments.socket, self._call.environment)
        return ControlClient(socket, PATIENCE_SECONDS).get(target)

    def _subsystems(self, _given: Sequence[str]) -> Iterator[Offer]:
        for subsystem in self._get(Operation.STATUS_READ.path)["subsystems"]:
            yield subsystem["name"], subsystem["state"]

    def _holdables(self, _given: Sequence[str]) -> Iterator[Offer]:
        status = self._get(Operation.STATUS_READ.path)
        yield from ((subsystem["name"], subsystem["state"]) for subsystem in status["subsystems"])
        categories = status.get("tools", ())
        yield from ((one["name"], one["state"]) for one in categories)
        yield from ((f"tool:{name}", "tool") for one in categories for name in one["tools"])
        yield from ((hold["target"], hold["rung"]) for one in categories for hold in one["held"])

    def _datastores(self, _given: Sequence[str]) -> Iterator[Offer]:
        from epad.configuration.effective import effective  # noqa: PLC0415 - 100 ms, and only here

        keys = [shown.key.split(".") for shown in effective(self._configuration())]
        yield from dict.fromkeys(
            (key[1], "datastore") for key in keys if key[0] == "datastores" and len(key) > 1
        )

    def _subjects(self, given: Sequence[str]) -> Iterator[Offer]:
        yield from self._subsystems(given)
        yield from ((phase, "phase") for phase in PHASES)
        yield from self(completion.DATASTORE, given)

    def _scopes(self, given: Sequence[str]) -> Iterator[Offer]:
        rows = self._get(Operation.BUDGETS_READ.path)["budgets"]
        named = dict(self._subsystems(given))
        yield from ((name, "subsystem") for name in named)
        yield from (
            (scope, "shared budget") for scope in sorted({row["scope"] for row in rows} - named.keys())
        )

    def _limits(self, given: Sequence[str]) -> Iterator[Offer]:
        """Yield `limit=` for each limit that is not named yet, with its present value."""
        from epad.operations.budget_changes import LIMITS  # noqa: PLC0415 - 100 ms, and only here

        named = {word.partition("=")[0] for word in given}
        now = _limits_of(self._get(Operation.BUDGETS_READ.path)["budgets"], given[0])
        yield from ((f"{limit}=", now.get(limit, "no limit")) for limit in LIMITS if limit not in named)

    def _checkpoints(self, _given: Sequence[str]) -> Iterator[Offer]:
        folder = os.path.join(state_of(self._call), "checkpoints")  # noqa: PTH118 - pathlib takes 10 ms to import
        for name in sorted(os.listdir(folder), reverse=True):  # noqa: PTH208
            if os.path.exists(os.path.join(folder, name, "MANIFEST.json")):  # noqa: PTH110, PTH118
                yield name, ""

    def _bundles(self, given: Sequence[str]) -> Iterator[Offer]:
        yield "first-tier", "the frames of the lifeboat"
        yield from self._checkpoints(given)

    def _parts(self, given: Sequence[str]) -> Iterator[Offer]:
        """Yield the parts of the checkpoint that is named, else of the newest."""
        from pathlib import Path  # noqa: PLC0415

        from epad.checkpoint.bundle import read_bundle  # noqa: PLC0415

        name = given[0] if given else next(self._checkpoints(given))[0]
        manifest = read_bundle(Path(state_of(self._call), "checkpoints", name)).manifest
        yield from ((part.name, part.role) for part in manifest.files)

    def _keys(self, _given: Sequence[str]) -> Iterator[Offer]:
        from epad.configuration.effective import effective  # noqa: PLC0415

        yield from ((shown.key, str(shown.value)) for shown in effective(self._configuration()))

    def _thresholds(self, given: Sequence[str]) -> Iterator[Offer]:
        from epad.simulate.settings import can_be_tried  # noqa: PLC0415

        yield from (
            (f"{key}=", value) for key, value in self._keys(given) if can_be_tried(tuple(key.split(".")))
        )

    def _configuration(self) -> Loaded:
        """Read the configuration of the daemon that runs, else the usual one. Raises ValueError."""
        from pathlib import Path  # noqa: PLC0415

        from epad.configuration.load import ConfigError, find, read  # noqa: PLC0415

        try:
            file = self._get(Operation.STATUS_READ.path).get("config_file")
        except ClientError:
            file = None
        try:
            return read(find(Path(file) if file else None))
        except ConfigError as error:
            raise ValueError("a configuration with errors has no keys to offer") from error


def _limits_of(rows: Sequence[Mapping[str, Any]], scope: str) -> dict[str, str]:
    return {row["name"]: f"{row['limit']:,} now" for row in rows if row["scope"] == scope and row["limit"]}
