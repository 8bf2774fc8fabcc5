"""The doctor on workload identity."""

from __future__ import annotations

import socket
from pathlib import Path

from epad.configuration.identity_schema import IdentityConfig
from epad.doctor.finding import Check, Verdict
from epad.doctor.identity import check_identity

ON = IdentityConfig(True, "epad.test", "")
KEPT = [Check("clock", Verdict.OK, "the wall clock is kept")]


def checks(config: IdentityConfig, own: Path, *, runs: bool = True, missing=(), clock=KEPT) -> list[Check]:
    return list(check_identity(config, own, runs=runs, missing=lambda: missing, clock=lambda: iter(clock)))


def test_off_is_one_line(tmp_path: Path) -> None:
    [off] = checks(IdentityConfig(False, "epad.test", ""), tmp_path / "none", missing=["grpclib"])
    assert off.verdict is Verdict.ABSENT


def test_all_is_well_where_the_socket_answers_or_no_daemon_runs(tmp_path: Path) -> None:
    path = tmp_path / "w.sock"
    [without] = checks(ON, path, runs=False)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        [well] = checks(ON, path)
        [agent] = checks(IdentityConfig(True, "epad.test", f"unix://{path}"), tmp_path / "none", runs=False)
    assert [one.verdict for one in (without, well, agent)] == [Verdict.OK] * 3
    assert "a process is told by its" in well.found


def test_each_lack_has_a_line_with_its_fix(tmp_path: Path) -> None:
    clock = [Check("clock", Verdict.LACKING, "nobody keeps the wall clock", "systemctl ...")]
    package, own, time = checks(ON, tmp_path / "none", missing=["grpclib", "PyJWT"], clock=clock)
    assert (package.verdict, package.fix) == (Verdict.BROKEN, "pip install 'epad[identity]'")
    assert "grpclib, PyJWT" in package.found
    assert f"does not answer at {tmp_path}/none" in own.found
    assert (time.verdict, time.fix) == (Verdict.LACKING, "systemctl ...")
    [agent] = checks(IdentityConfig(True, "epad.test", f"unix://{tmp_path}/x"), tmp_path / "none", runs=False)
    assert (agent.verdict, "SPIRE agent" in agent.found) == (Verdict.BROKEN, True)
