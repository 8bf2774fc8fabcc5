"""Run `epactl recovery` and `epactl lifeboat`.

Saved bundles are read from the files, so this works with the daemon dead.
"""

from __future__ import annotations

import json

from epad.api.client import UnknownNameError
from epad.epactl import render
from epad.epactl.call import EXIT_FAILED, EXIT_OK, EXIT_UNKNOWN, Call, UsageError, is_there, state_of
from epad.epactl.commands.orders import order
from epad.epactl.consent import NOTHING_DONE, agreed
from epad.formatting.text import clean
from epad.operations.registry import Operation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from epad.answers.decisions import PlanItem, Recovery
    from epad.checkpoint.bundle import Bundle
    from epad.lifeboat.frames import Frame

FIRST_TIER = "first-tier"


def recovery(call: Call) -> int:
    """`epactl recovery`."""
    answer = call.client.get(Operation.RECOVERY_READ.path)
    call.terminal.show(answer, recovery_lines(answer))
    return EXIT_OK


def recovery_lines(answer: Recovery) -> Iterator[str]:
    """Yield the plan, the attempts, and the turns that are left to a person."""
    yield (
        f"{clean(answer['phase'])}: {answer['attempts']} of {answer['attempts_allowed']} attempts made in "
        f"this incident, {answer['recoveries_this_hour']} recoveries within the hour"
    )
    if answer["trouble"]:
        yield f"lost turns cannot be told: {clean(answer['trouble'])}"
    yield from _plan_lines(answer["plan"])
    for attempt in answer["tried"]:
        yield from ("", f"attempt {attempt['operation']} at {attempt['at']}: {attempt['state']}")
        yield from (f"  because {one['id']} {clean(one['text'])}" for one in attempt["evidence"])
        for step in attempt["steps"]:
            what = f"{step['name']} {step['target']}: {step['state']} after {step['attempts']} attempt(s)"
            yield clean(f"  {what}: {step['result']}".rstrip(": "))
    for name, why in answer["parked"].items():
        yield from ("", clean(f"{name}: {why}"))
    if answer["lost_turns"]:
        rows = [
            (t["turn"], t["subsystem"], t["at"], t["state"], str(t["attempts"]), t["why"])
            for t in answer["lost_turns"]
        ]
        yield from ("", *render.table(("LOST TURN", "SUBSYSTEM", "AT", "STATE", "TRIED", "WHY"), rows))


def _plan_lines(plan: Sequence[PlanItem]) -> Iterator[str]:
    if not plan:
        yield "nothing needs recovery"
        return
    yield from ("", "a recovery that begins now:")
    for number, item in enumerate(plan, 1):
        yield clean(f"  {number}. {item['action']} {item['target']}: {item['why']}")
        yield clean(f"     from {', then '.join(item['sources'])}")
        if item["after"]:
            yield clean(f"     after {', '.join(item['after'])}")
        yield clean(f"     verified by {item['verified_by']}")


def relaunch(call: Call) -> int:
    """`epactl lifeboat relaunch --reason R [--from BUNDLE] [--state DIR]`."""
    if call.arguments.source is None:
        return order(call, Operation.RELAUNCH)
    if call.arguments.state is None:
        raise UsageError("--from makes a state directory anew: say which with --state DIR")
    import os  # noqa: PLC0415
    from datetime import UTC, datetime  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    from epad.lifeboat.relaunch import RelaunchError  # noqa: PLC0415
    from epad.lifeboat.relaunch import relaunch as make_anew  # noqa: PLC0415

    state = Path(call.arguments.state).absolute()
    source, who = _find(state, call.arguments.source), f"uid {os.getuid()}"
    if call.arguments.dry_run:
        return _rehearse_relaunch(call, source, state)
    if not agreed(call, f"makes {state} anew from {source}; its present contents are renamed"):
        return EXIT_FAILED
    try:
        done = make_anew(source, state, call.arguments.reason, who, datetime.now(UTC))
    except RelaunchError as error:
        call.terminal.say(f"nothing was relaunched: {error}")
        return EXIT_FAILED
    lines = [
        f"{done.state} made anew from {done.source}: {len(done.files)} files, {done.signature}",
        *([f"{done.records_added} ledger records added from the first tier"] if done.records_added else []),
        *(f"lost: {line}" for line in done.lost),
        *([f"what stood there is in {done.put_aside}"] if done.put_aside else []),
        f"start it: epad run --state {done.state}, or systemctl start epad",
    ]
    answer = {name: getattr(done, name) for name in done.__slots__}
    call.terminal.show(answer, map(clean, lines))
    return EXIT_OK


def _rehearse_relaunch(call: Call, source: Path, state: Path) -> int:
    """Say from which bundle a state directory would be made, and make none."""
    answer = {"order": "relaunch", "dry_run": True, "source": str(source), "state": str(state)}
    answer |= {"reason": call.arguments.reason, "put_aside": state.exists()}
    told = f"would make {state} anew from {source}" + (
        "; its present contents would be renamed" * state.exists()
    )
    call.terminal.show(answer, [clean(told), NOTHING_DONE])
    return EXIT_OK


def list_boats(call: Call) -> int:
    """`epactl lifeboat list [--state DIR]`."""
    from epad.checkpoint.retention import list_bundles  # noqa: PLC0415

    state = _state(call)
    boats = [_about(bundle) for bundle in list_bundles(state / "checkpoints").bundles]
    tier = _frames(state / "lifeboat" / FIRST_TIER)
    rows = [
        (b["name"], b["kind"], b["at"], "verified" if b["verified"] else "NOT verified", b["reason"])
        for b in boats
    ]
    lines = (
        render.table(("NAME", "KIND", "AT", "STATE", "REASON"), rows) if rows else [f"no bundle in {state}"]
    )
    lines.append(f"{FIRST_TIER}: {len(tier)} frames" if tier else f"{FIRST_TIER}: never written")
    answer = {"bundles": boats, "first_tier": [{"name": f.name, "bytes": len(f.data)} for f in tier]}
    call.terminal.show(answer, lines)
    return EXIT_OK


def inspect(call: Call) -> int:
    """`epactl lifeboat inspect BUNDLE [--state DIR]`: its report, or its frames; exit status 1 if it is not whole."""
    path = _find(_state(call), call.arguments.source)
    if path.is_dir():
        return _inspect_bundle(call, path)
    tier = _frames(path)
    if not tier:
        call.terminal.say(f"{path}: holds no frame")
        return EXIT_UNKNOWN
    whole = tier[-1].name == "END" and [f.index for f in tier] == list(range(len(tier)))
    why: dict[str, Any] = next((json.loads(f.data) for f in tier if f.name == "why.json"), {})
    answer = {"whole": whole, "frames": [{"name": f.name, "bytes": len(f.data)} for f in tier], "why": why}
    lines = [f"{f.index:>3}  {len(f.data):>9} bytes  {clean(f.name)}" for f in tier]
    lines.append("whole" if whole else "NOT whole: the writing was cut short, or frames are damaged")
    lines += [clean(f"{name}: {value}") for name, value in why.items()]
    call.terminal.show(answer, lines)
    return EXIT_OK if whole else EXIT_FAILED


def _inspect_bundle(call: Call, path: Path) -> int:
    from epad.checkpoint.bundle import read_bundle  # noqa: PLC0415
    from epad.checkpoint.signature import keys_at, signed_by  # noqa: PLC0415
    from epad.checkpoint.verify import bundle_faults  # noqa: PLC0415

    keys = keys_at(path.parent.parent / "anchor")
    bundle = read_bundle(path)
    faults = bundle_faults(path, keys=keys)
    report = path / "REPORT.md"
    text = report.read_text(errors="replace") if report.exists() else "no report: it is a checkpoint\n"
    signature = signed_by(bundle.manifest, keys)
    lines = [*map(clean, text.splitlines()), "", *(f"fault: {clean(f)}" for f in faults)]
    lines.append("NOT whole" if faults else f"every byte is as it was made; {clean(signature)}")
    answer = {"ok": not faults, "faults": list(faults), "signature": signature, "report": text}
    call.terminal.show(_about(bundle) | answer, lines)
    return EXIT_FAILED if faults else EXIT_OK


def _about(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "name": bundle.id,
        "path": str(bundle.path),
        "kind": manifest.kind,
        "at": manifest.at.isoformat(timespec="seconds"),
        "reason": manifest.reason,
        "verified": bundle.verified,
        "files": [part.file for part in manifest.files],
        "lost": [f"{part.name}: {part.error}" for part in manifest.lost],
    }


def _state(call: Call) -> Path:
    from pathlib import Path  # noqa: PLC0415

    return Path(state_of(call))


def _find(state: Path, source: str) -> Path:
    """Return a bundle by its name in the state directory, or by its path. Raises UnknownNameError."""
    from pathlib import Path  # noqa: PLC0415

    for path in (Path(source), state / "checkpoints" / source, state / "lifeboat" / source):
        if is_there(str(path), bool):
            return path.absolute()
    message = f"there is no bundle {source!r}, neither as a path nor in {state}"
    raise UnknownNameError(message, "`epactl lifeboat list` shows what there is")


def _frames(path: Path) -> list[Frame]:
    from epad.lifeboat.frames import newest  # noqa: PLC0415

    try:
        return newest(path.read_bytes()) if path.is_file() else []
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # of a read, the name is not in it
