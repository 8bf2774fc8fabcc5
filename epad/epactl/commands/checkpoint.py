"""The `epactl checkpoint` commands. All but `create` read the files themselves, so they work without the daemon."""

from __future__ import annotations

import os
import stat

from epad.epactl.call import EXIT_FAILED, EXIT_OK, EXIT_UNKNOWN, Call, is_there, state_of
from epad.epactl.consent import NOTHING_DONE, agreed
from epad.formatting.text import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from epad.checkpoint.bundle import Bundle
    from epad.checkpoint.restore import Restored
    from epad.checkpoint.retention import Inventory


class _Files:
    """The checkpoints of a state directory."""

    def __init__(self, call: Call) -> None:
        from pathlib import Path  # noqa: PLC0415

        from epad.checkpoint.retention import list_bundles  # noqa: PLC0415

        self.state: Path = Path(state_of(call))
        self.directory: Path = self.state / "checkpoints"
        self.inventory: Inventory = list_bundles(self.directory)

    def chosen(self, identity: str | None) -> Path | None:
        """The bundle named, by its id or its path, else the newest verified one; None if there is none."""
        from pathlib import Path  # noqa: PLC0415

        if identity is None:
            newest = self.inventory.newest_verified
            return newest.path if newest else None
        known = [b.path for b in self.inventory.bundles] + [d.path for d in self.inventory.damaged]
        named = next((path for path in known if path.name == identity), Path(identity))
        return named if is_there(str(named), stat.S_ISDIR) else None


def show_list(call: Call) -> int:
    """`epactl checkpoint list [--state DIR]`."""
    files = _Files(call)
    values = [_fields(bundle) for bundle in files.inventory.bundles]
    damaged = [{"id": one.path.name, "damaged": one.reason} for one in files.inventory.damaged]
    lines = [_line(value) for value in values] + [
        f"{one['id']}  DAMAGED: {one['damaged']}" for one in damaged
    ]
    lines += [f"{path.name}  unfinished" for path in files.inventory.unfinished]
    call.terminal.show([*values, *damaged], lines or [f"{files.directory}: no checkpoints yet"])
    return EXIT_OK


def verify(call: Call) -> int:
    """`epactl checkpoint verify [ID] [--state DIR]`."""
    from epad.checkpoint.verify import bundle_faults  # noqa: PLC0415
    from epad.copying.errors import BundleDamagedError  # noqa: PLC0415

    files = _Files(call)
    bundle = files.chosen(call.arguments.id)
    if bundle is None:
        return _none_there(call, files)
    try:
        faults = bundle_faults(bundle, files.state)
    except (BundleDamagedError, OSError) as error:
        faults = (str(error),)
    gaps = _gaps(files, bundle)
    faults = (*gaps, *faults)
    lines = [f"{bundle.name}: sound"] if not faults else [f"{bundle.name}: {fault}" for fault in faults]
    call.terminal.show({"id": bundle.name, "ok": not faults, "faults": list(faults)}, lines)
    return EXIT_FAILED if faults else EXIT_OK


def _gaps(files: _Files, path: Path) -> tuple[str, ...]:
    """Return the parts that a bundle lacks; empty if its manifest cannot be read."""
    return next((one.manifest.gaps for one in files.inventory.bundles if one.path == path), ())


def restore(call: Call) -> int:
    """`epactl checkpoint restore [ID] [--to DIR] [--only PART] [--outside] [--yes] [--state DIR]`."""
    from datetime import UTC, datetime  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    from epad.checkpoint.restore import Wish  # noqa: PLC0415
    from epad.checkpoint.restore import restore as put_back  # noqa: PLC0415
    from epad.copying.errors import CheckpointError  # noqa: PLC0415

    arguments, files = call.arguments, _Files(call)
    bundle = files.chosen(arguments.id)
    if bundle is None:
        return _none_there(call, files)
    to, only = Path(arguments.to).absolute() if arguments.to else None, arguments.only or ""
    asked = to is None and not arguments.yes
    os.umask(0o077)
    try:
        if arguments.dry_run:
            return _rehearse(call, bundle, files.state, to, only)
        if asked and not agreed(call, _deed(bundle, files.state, only)):
            return EXIT_FAILED
        restored = put_back(
            bundle,
            state=files.state,
            now=datetime.now(UTC),
            to=to,
            wish=Wish(only, asked or arguments.outside, arguments.reason),
        )
    except CheckpointError as error:
        call.terminal.say(str(error))
        return EXIT_FAILED
    _tell(call, restored, to, files.state)
    return EXIT_OK if restored.ok else EXIT_FAILED


def _rehearse(call: Call, bundle: Path, state: Path, to: Path | None, only: str) -> int:
    """Say which files would be written, and write none. Raises CheckpointError."""
    from epad.checkpoint.bundle import read_bundle  # noqa: PLC0415
    from epad.checkpoint.restore import moves, outside_of  # noqa: PLC0415

    plan = moves(bundle, read_bundle(bundle).manifest, state, to, only)
    places = [] if to else outside_of(plan, state)
    answer = {
        "order": "checkpoint restore",
        "dry_run": True,
        "id": bundle.name,
        "reason": call.arguments.reason,
        "files": [str(move.target) for move in plan],
        "displaced": [str(move.target) for move in plan if move.target.exists()],
        "outside": places,
    }
    lines = [
        f"would restore {move.target}" + (", and rename the present one" if move.target.exists() else "")
        for move in plan
    ]
    lines += [f"outside of {state}, so it needs --outside: {path}" for path in places]
    call.terminal.show(answer, map(clean, [*lines, NOTHING_DONE]))
    return EXIT_OK


def _deed(bundle: Path, state: Path, only: str) -> str:
    """Describe a restore, with every place outside of the state that it would write to. Raises CheckpointError."""
    from epad.checkpoint.bundle import read_bundle  # noqa: PLC0415
    from epad.checkpoint.restore import moves, outside_of  # noqa: PLC0415

    places = outside_of(moves(bundle, read_bundle(bundle).manifest, state, None, only), state)
    more = f", and writes outside of it too: {', '.join(places)}" if places else ""
    return f"puts {bundle.name} in place of the present contents of {state}, which are renamed{more}"


def _tell(call: Call, restored: Restored, to: Path | None, state: Path) -> None:
    value = {
        "id": restored.bundle,
        "ok": restored.ok,
        "files": list(restored.files),
        "put_aside": list(restored.put_aside),
        "faults": list(restored.faults),
    }
    lines = [f"{restored.bundle}: {len(restored.files)} file(s) restored to {to or state}, read back"]
    lines += [f"put aside: {path}" for path in restored.put_aside]
    lines += [f"NOT SOUND: {fault}" for fault in restored.faults]
    if to is None and restored.ok:
        lines.append("no daemon runs on this state: start it, and `epactl status` follows")
    call.terminal.show(value, lines)


def _none_there(call: Call, files: _Files) -> int:
    wanted = call.arguments.id or "verified checkpoint"
    call.terminal.say(
        f"{files.directory}: there is no {wanted}; `epactl checkpoint list` shows what there is"
    )
    return EXIT_UNKNOWN


def _fields(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "id": bundle.id,
        "kind": manifest.kind,
        "verified": bundle.verified,
        "signed": bool(manifest.signer),
        "bytes": sum(part.size_bytes for part in manifest.files),
        "files": len(manifest.files),
        "lost": [f"{part.name}: {part.error}" for part in manifest.lost],
        "reason": manifest.reason,
        "at": manifest.at.isoformat(),
    }


def _line(value: dict[str, Any]) -> str:
    state = "verified" if value["verified"] else "NOT verified"
    lost = f", not in it: {'; '.join(value['lost'])}" if value["lost"] else ""
    signed = "" if value["signed"] else ", unsigned"
    size = f"{value['bytes'] / 1e6:.1f} MB"
    return f"{value['id']}  {value['kind']:10}  {state}{signed}  {size:>10}  {value['reason']}{lost}"
