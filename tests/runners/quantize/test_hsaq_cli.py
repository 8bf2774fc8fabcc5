"""`hsaq` as a user meets it: the plan before the work, clear refusals, kill and go on."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import pytest

from runners.quantize.cli import Exit, main

if TYPE_CHECKING:
    from quantize_world import World


QUICK = ("--bpw", "3.5", "--bits", "2,3,4,8", "--calibration-windows", "6", "--evaluation-windows", "24")


def arguments(world: World, work: Path, *more: str, command: str = "run") -> list[str]:
    texts = world.texts
    given = ["--calibration", str(texts.calibration), "--evaluation", str(texts.evaluation)]
    places = ["--work", str(work), "--cache", str(work / "cache")]
    return [command, str(world.model), *given, *places, *QUICK, *more]


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Layers, limit, memory and disk, from headers alone."""
    work = tmp_path / "work"
    assert main(arguments(world, work, "--dry-run")) == Exit.OK
    said = capsys.readouterr().out
    assert "14 linear layers" in said
    assert "3.500 bits a weight" in said
    assert not work.exists()


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (("--group", "48"), "model.layers.0.self_attn.q_proj: 64 inputs are not a multiple of --group 48"),
        (("--bound", "nosuch>=4"), "--bound nosuch>=4: no layer is called so"),
        (("--bound", "o_proj=4"), "expected PATTERN>=BITS"),
        (("--bits", "1,2"), "compressed-tensors holds 2, 3, 4, 5, 6, 7, 8 bits"),
        (("--solver", "hqq"), "fit only --storage hqq"),
        (("--bpw", "1.0"), "the layers take at least"),
        (("--calibration-windows", "9999"), "the text has only"),
    ],
)
def test_what_would_fail_later_is_refused_at_once(
    more: tuple[str, ...], complaint: str, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names thing, place and fix; never a traceback."""
    assert main(arguments(world, tmp_path, *more)) == Exit.FAILED
    said = capsys.readouterr().err
    assert complaint in said.splitlines()[-1]


def test_a_tokenizer_of_another_model_is_caught(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Same size, other ids: the model then knows no more than frequencies, and the run is INVALID."""
    model = tmp_path / "model"
    shutil.copytree(world.model, model)
    content = json.loads((model / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    names = sorted(vocabulary, key=vocabulary.__getitem__)
    shuffled = random.Random(3).sample(names, len(names))
    content["model"]["vocab"] = {name: vocabulary[other] for name, other in zip(names, shuffled, strict=True)}
    (model / "tokenizer.json").write_text(json.dumps(content))
    work = tmp_path / "work"
    given = arguments(world, work)
    given[1] = str(model)
    assert main(given) == Exit.INVALID
    assert "the tokenizer or the text is not this model's" in capsys.readouterr().err


def killed(command: list[str], work: Path, *, more: int, seconds: float) -> bool:
    """Start, kill -9 its process group so long after it committed so many more; whether it had ended before."""
    wanted = committed_units(work) + more
    child = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while committed_units(work) < wanted and child.poll() is None:
        time.sleep(0.01)
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return False
    return child.returncode == 0


def committed_units(work: Path) -> int:
    """How far a run has come; asked beside it, so nothing is written."""
    try:
        with contextlib.closing(apsw.Connection(f"{work}/run.db", flags=apsw.SQLITE_OPEN_READONLY)) as run:
            return int(run.execute("SELECT count(*) FROM unit").get)
    except (apsw.CantOpenError, apsw.SQLError, apsw.BusyError):  # no file, or no table in it yet
        return 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_twenty_instants_it_makes_the_same_bytes(world: World, tmp_path: Path) -> None:
    """SIGKILL at random instants, begun anew whenever it came to its end: always the undisturbed run's manifest."""
    program = [sys.executable, "-m", "runners.quantize"]
    began = time.monotonic()
    assert (
        subprocess.run(
            [*program, *arguments(world, tmp_path / "calm")], check=False, capture_output=True
        ).returncode
        == 0
    )
    whole = time.monotonic() - began
    chance, shaken = random.Random(7), tmp_path / "shaken"
    command = [*program, *arguments(world, shaken)]
    expected = (tmp_path / "calm/manifest.json").read_bytes()
    reached: list[int] = []
    while len(reached) < 20:
        more = chance.randrange(6)
        # At once after a commit or a little later; with none to wait for, anywhere from its first instruction on.
        seconds = chance.uniform(0.0, 0.1) if more else chance.uniform(0.0, whole)
        if killed(command, shaken, more=more, seconds=seconds):
            assert (shaken / "manifest.json").read_bytes() == expected
            shutil.rmtree(shaken)
        else:
            reached.append(committed_units(shaken))
    assert len(set(reached)) > 3  # killed all over the run, not always at its beginning
    print(f"killed after so many units: {sorted(reached)}")
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    assert (shaken / "manifest.json").read_bytes() == expected


def test_ctrl_c_says_how_to_go_on_and_exits_130(world: World, tmp_path: Path) -> None:
    """In the middle of a stage: no traceback, and the same command does only the rest."""
    work = tmp_path / "work"
    command = [sys.executable, "-m", "runners.quantize", *arguments(world, work)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        while not committed_units(work) and run.poll() is None:
            time.sleep(0.01)
        run.send_signal(signal.SIGINT)
        said = run.stderr.read()
    assert run.returncode == Exit.INTERRUPTED, said
    assert "hsaq: stopped; the same command goes on where it was" in said
    assert "Traceback" not in said
    kept = committed_units(work)
    assert kept
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    assert committed_units(work) > kept
