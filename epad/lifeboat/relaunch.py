"""Make a state directory anew from saved data, while the daemon is dead.

Runs in `epactl`, never in the daemon. The target is touched only after everything is staged and verified; its present
contents are put aside, not removed; the journal gets the order, and the daemon's next start takes the transition.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import msgspec

from epad import EpadError
from epad.checkpoint.bundle import Bundle, read_bundle
from epad.checkpoint.manifest import MANIFEST_FILE, Part
from epad.checkpoint.retention import list_bundles
from epad.checkpoint.signature import keys_at, signature_fault, signed_by
from epad.checkpoint.verify import bundle_faults
from epad.control_loop.incident import INCIDENT_NOTE, Incident
from epad.copying.copied_file import DestinationError, sealed
from epad.copying.errors import CheckpointError
from epad.ledger.hashes import leaf_hash, link_hash
from epad.ledger.paths import ANY_STARTS, STARTS_FILE, witness_of
from epad.lifeboat.contents import LEDGER_TAIL, TailRow, read_tail
from epad.lifeboat.frames import Frame, newest, sync_directory
from epad.storage.database import DatabaseError, connect, fetch
from epad.storage.state_lock import locked
from statemachine.phase import Phase
from statemachine.situation import Order
from statemachine.table import Trigger

FIRST_TIER_FILE = "first-tier"
ROOM = "lifeboat"
STATE_PART, LEDGER_PART, CONFIG_PART = "state.db", "ledger.db", "config.json"
_NOT_ADDED = "the first tier had no room for all since the checkpoint, or they do not follow from it"
_RESTORED = "restored from what was saved before the end"
_INSERT_TRANSITION = (
    "INSERT INTO transition(utc, monotonic, boot_id, source, trigger, destination, guard, sentence, cause)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class RelaunchError(EpadError):
    """The relaunch was refused; the message names the obstacle and the fix."""


@dataclass(frozen=True, slots=True)
class Relaunched:
    """Reports the sources of the new state directory."""

    state: str
    source: str
    files: tuple[str, ...]
    lost: tuple[str, ...]
    put_aside: str = ""
    records_added: int = 0
    signature: str = ""


def relaunch(source: Path, state: Path, reason: str, by: str, now: datetime) -> Relaunched:
    """Make `state` from a bundle, or from a first tier and the newest good bundle beside it.

    Raises RelaunchError.
    """
    try:
        tier = _frames_of(source) if source.is_file() else []
        bundle = _bundle_beside(source) if source.is_file() else read_bundle(source)
        with _daemon_kept_out(state):
            return _relaunch(bundle, tier, source, state, f"{reason} ({by})", now)
    except (CheckpointError, DestinationError, DatabaseError, apsw.Error, msgspec.MsgspecError) as error:
        raise RelaunchError(str(error)) from error
    except OSError as error:
        raise RelaunchError(f"{error.filename or source}: {error.strerror or error}") from error


def _relaunch(
    bundle: Bundle, tier: list[Frame], source: Path, state: Path, order: str, now: datetime
) -> Relaunched:
    signature = _signature(bundle)
    stage = state.with_name(f"{state.name}.relaunching")
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(mode=0o700, parents=True)
    try:
        files = [part.file for part in bundle.manifest.files if _place(stage, bundle.path, part)]
        _require_core(bundle)
        added, missing = _add_tier(stage, tier)
        _order_relaunch(stage / STATE_PART, order, now)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    for folder, _, _ in os.walk(stage, topdown=False):
        sync_directory(Path(folder))
    aside = _swap(stage, state, now)
    witness_of(state).unlink(missing_ok=True)  # it would speak of records that are given up hereby
    lost = (*(f"{part.name}: {part.error}" for part in bundle.manifest.lost), *missing)
    return Relaunched(str(state), str(source), tuple(files), lost, aside, added, signature)


def _signature(bundle: Bundle) -> str:
    """Return the signer of a bundle. Raises RelaunchError if its signature cannot be believed."""
    if fault := _signature_fault(bundle):
        raise RelaunchError(f"{bundle.path}: {fault}: choose another bundle")
    return signed_by(bundle.manifest, _keys_beside(bundle))


def _signature_fault(bundle: Bundle) -> str:
    encoded = (bundle.path / MANIFEST_FILE).read_bytes()
    return signature_fault(bundle.path, bundle.manifest, encoded, _keys_beside(bundle))


def _keys_beside(bundle: Bundle) -> list[str]:
    """Return the ledger keys of the state directory around the bundle; none for one that was carried elsewhere."""
    return keys_at(bundle.path.parent.parent / "anchor")


def _require_core(bundle: Bundle) -> None:
    """Raises RelaunchError for a bundle that nothing can be started from."""
    if not _has_core(bundle):
        raise RelaunchError(f"{bundle.path} lacks {LEDGER_PART} or {STATE_PART}: choose another bundle")


def _bundle_beside(tier: Path) -> Bundle:
    """Return the newest good bundle of the state directory around a first tier. Raises RelaunchError.

    A bundle without some source is taken if there is no other, and its gaps are named. It is read back here, since it
    was never marked as verified.
    """
    bundles = list_bundles(tier.parent.parent / "checkpoints").bundles
    good = [b for b in bundles if not _signature_fault(b) and _has_core(b)]
    for bundle in sorted(good, key=lambda b: b.partial):
        if bundle.verified or (bundle.partial and not bundle_faults(bundle.path)):
            return bundle
    raise RelaunchError(
        f"{tier} adds to a checkpoint, and no verified one lies beside it; give --from BUNDLE"
    )


def _has_core(bundle: Bundle) -> bool:
    """Tell if the daemon could be started from it."""
    return {LEDGER_PART, STATE_PART} <= {part.file for part in bundle.manifest.files}


def _frames_of(path: Path) -> list[Frame]:
    """Return the first tier's frames. Raises RelaunchError."""
    found = newest(path.read_bytes())
    if not found:
        raise RelaunchError(f"{path} holds no frame: nothing was ever written to it, or all of it is damaged")
    return found


@contextlib.contextmanager
def _daemon_kept_out(state: Path) -> Iterator[None]:
    """Raises RelaunchError while a daemon has this state."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(state, make=False))
        except BlockingIOError as error:
            raise RelaunchError(f"an epad runs on {state}: stop it, or leave out --from") from error
        yield


def _place(stage: Path, bundle: Path, part: Part) -> bool:
    """Lay a part in the daemon's place for it, and read it back; False for one that belongs to the bundle only."""
    own = {"REPORT.md", CONFIG_PART}
    target = stage / (f"{ROOM}/{part.file}" if part.file in own else part.file)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(bundle / part.file, target)
    target.chmod(0o600)
    copied = sealed(part.file, target, part.how)
    if copied.sha256 != part.sha256:
        raise RelaunchError(f"{bundle / part.file} is damaged (SHA-256): choose another bundle")
    return part.file not in own


def _add_tier(stage: Path, tier: list[Frame]) -> tuple[int, list[str]]:
    """Add the first tier's newer data to the bundle's: ledger records that follow, and newer heads.

    How many records were added, and which of them are missing.
    """
    by_name = {frame.name: frame.data for frame in tier}
    rows = read_tail(by_name[LEDGER_TAIL]) if LEDGER_TAIL in by_name else []
    added, last = _append(stage / LEDGER_PART, rows)
    missing = (
        [f"ledger records {last + 1} to {rows[-1][0]}: {_NOT_ADDED}"] if rows and rows[-1][0] > last else []
    )
    for name, data in by_name.items():
        if name.startswith("anchor/"):
            target = stage / "anchor" / Path(name).name
            target.parent.mkdir(mode=0o700, exist_ok=True)
            target.write_bytes(data)
    (stage / "anchor").mkdir(mode=0o700, exist_ok=True)
    (stage / "anchor" / STARTS_FILE).write_bytes(ANY_STARTS)
    return added, missing


def _append(ledger: Path, rows: list[TailRow]) -> tuple[int, int]:
    """Add the rows that follow from the last one there, for as long as the chain bears them out.

    How many those were, and the number of the last one then.
    """
    with contextlib.closing(connect(ledger)) as connection, connection:
        last = fetch(connection, "SELECT seq, link FROM record ORDER BY seq DESC LIMIT 1")
        sequence, link = last[0] if last else (0, bytes(32))
        added = 0
        for row in rows:
            seq, body, leaf = row[0], row[5], row[6]
            if seq <= sequence:
                continue
            follows = seq == sequence + 1 and row[7] == link_hash(link, seq, leaf)
            if not follows or (body is not None and leaf_hash(body) != leaf):
                break
            connection.execute("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            sequence, link, added = seq, row[7], added + 1
    return added, sequence


def _order_relaunch(state_database: Path, order: str, now: datetime) -> None:
    """Leave the order in the journal, which the daemon's next start reads for unfinished work."""
    with contextlib.closing(connect(state_database)) as connection, connection:
        rows = fetch(connection, "SELECT destination FROM transition ORDER BY id DESC LIMIT 1")
        phase = rows[0][0] if rows else Phase.NORMAL
        if phase != Phase.LIFEBOAT:  # a checkpoint from before the end: only LIFEBOAT is left by a relaunch
            stamp = now.astimezone(UTC).isoformat(timespec="milliseconds")
            cause = json.dumps({"situation": {}, "order": order, "anomalies": []})
            values = (stamp, 0.0, "", phase, Trigger.ABANDON, Phase.LIFEBOAT, "", _RESTORED, cause)
            connection.execute(_INSERT_TRANSITION, values)
        notes = fetch(connection, "SELECT value FROM note WHERE key = ?", (INCIDENT_NOTE,))
        incident: dict[str, Any] = json.loads(notes[0][0]) if notes else Incident().as_json("")
        incident |= {"order": Order.RELAUNCH, "order_reason": order, "attempt_running": False}
        connection.execute("REPLACE INTO note VALUES (?, ?)", (INCIDENT_NOTE, json.dumps(incident)))


def _swap(stage: Path, state: Path, now: datetime) -> str:
    """Put the present directory aside, and the new one in its place; bundles stay where they were."""
    aside = ""
    if state.exists() and any(state.iterdir()):
        put_aside = _free_name(state.with_name(f"{state.name}.before-{now:%Y%m%dT%H%M%SZ}"))
        state.rename(put_aside)
        aside = str(put_aside)
        if (put_aside / "checkpoints").is_dir():
            (put_aside / "checkpoints").rename(stage / "checkpoints")
    elif state.exists():
        state.rmdir()
    stage.rename(state)
    sync_directory(state.parent)
    return aside


def _free_name(wanted: Path) -> Path:
    """Return the wanted name, or one with a number behind it: a clock may show the same second twice."""
    names = (wanted.with_name(f"{wanted.name}.{number}") for number in itertools.count(2))
    return next(name for name in itertools.chain([wanted], names) if not name.exists())
