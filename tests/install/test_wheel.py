"""The package as pipx and uv install it: made by way of the source archive, complete, and at work without the clone."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import installed
import pytest
from installed import QUICK, Installation, installation

from epad import __version__

ROOT = Path(__file__).parents[2]
PACKAGES = ("epad", "probes", "statemachine", "runners")
BUILD = "import hatchling.build as b, sys; print(getattr(b, f'build_{sys.argv[1]}')(sys.argv[2]))"


def build(kind: str, source: Path, where: Path) -> Path:
    """Build a `wheel` or an `sdist` as pip and build do, with the backend that is here: nothing is fetched."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD, kind, where], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return where / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, made from an unpacked source archive: what is missing in either is missing in it."""
    pytest.importorskip("hatchling", reason="hatchling is not installed: no wheel is built")
    directory = tmp_path_factory.mktemp("package")
    archive = build("sdist", ROOT, directory)
    (directory / "source").mkdir()
    subprocess.run(["tar", "-xzf", archive, "-C", directory / "source"], check=True)
    return build("wheel", directory / "source" / archive.name.removesuffix(".tar.gz"), directory)


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment with the wheel, which finds what it depends on among this Python's packages."""
    environment = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(environment, symlinks=True)
    python = environment / "bin/python"
    install = ["install", "-q", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, *install],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # A file of paths inside such a directory is not read: this checkout stays out of sight.
    (own,) = environment.glob("lib/python*/site-packages")
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin"


def run(*command: str | Path, cwd: Path, status: int = 0) -> str:
    """Run a command of the environment from elsewhere, with nothing set that leads to the clone; what it said."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EPAD"))}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**kept, "HOME": str(cwd), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, (command, done.stdout, done.stderr)
    return done.stdout + done.stderr


def in_the_clone() -> Iterator[str]:
    """Every file of the packages, and where in the wheel it belongs."""
    for package in (*PACKAGES, "systemd"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in path.parts:
                name = str(path.relative_to(ROOT))
                yield name.replace("systemd/", "epad/systemd_files/", 1) if package == "systemd" else name


def test_it_holds_every_file_of_the_packages_and_none_beside(wheel: Path) -> None:
    """Units, defaults, tables of fields, what the page and the reports need; no test, no script."""
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if ".dist-info/" not in name}
    there = set(in_the_clone())
    assert {"epad/default.toml", "epad/web/live.js", "epad/systemd_files/epad.service"} <= there
    assert names == there


def test_it_answers_from_a_directory_that_is_not_the_clone(scripts: Path, tmp_path: Path) -> None:
    """Version, help, defaults, a check of both kinds, what a service would be."""
    assert run(scripts / "epad", "--version", cwd=tmp_path) == f"epad {__version__}\n"
    assert "usage: epactl" in run(scripts / "epactl", "--help", cwd=tmp_path)
    assert "usage: wargame" in run(scripts / "wargame", "--help", cwd=tmp_path)
    defaults = run(scripts / "epad", "default-config", cwd=tmp_path)
    (tmp_path / "epad.toml").write_text(defaults + "\n[subsystems.mine]\ncommand = ['true']\n")
    assert "\nok: epad.toml\n" in run(scripts / "epad", "check", "--config", "epad.toml", cwd=tmp_path)
    (tmp_path / "epad.toml").write_text("[gatway]\n")
    said = run(scripts / "epad", "check", "--config", "epad.toml", cwd=tmp_path, status=1)
    assert "did you mean gateway?" in said
    where = run(scripts / "python", "-c", "import epad; print(epad.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(scripts.parent)


def test_it_would_be_a_service(scripts: Path, tmp_path: Path) -> None:
    """With the units that it brings along; a place that user epad could not reach is refused in words."""
    rehearse = (
        "import sys; from epad.daemon import cli; from epad.install import install;"
        "install._check_reachable = lambda program: None;"
        f"sys.argv[0] = {str(scripts / 'epad')!r};"
        "sys.exit(cli.main(['install', '--dry-run', '--root', '.']))"
    )
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").touch()
    said = run(scripts / "python", "-c", rehearse, cwd=tmp_path)
    assert "would write   etc/systemd/system/epad.service" in said
    assert "etc/systemd/user/epad.slice" in said
    done = subprocess.run(
        [scripts / "epad", "install", "--dry-run", "--root", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 or "install it elsewhere" in done.stderr, done.stderr


@pytest.fixture
def house(scripts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    """The daemon of the wheel."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(installed, "EPAD", scripts / "epad")
    monkeypatch.setattr(installed, "EPACTL", scripts / "epactl")
    with installation(QUICK) as one:
        yield one


def test_its_daemon_runs_what_is_embedded(house: Installation) -> None:
    """Model server, wargame and chat client come along; so does what the page draws itself with."""
    house.start()
    status = house.status()
    assert {one["name"] for one in status["subsystems"]} == {"model", "wargame", "chat"}
    house.wait(lambda: house.subsystem("chat")["tokens"]["turns"] > 0, "a turn of the chat client")
    for name in ("", "style.css", "live.js"):
        with urllib.request.urlopen(f"{status['web']['url']}{name}") as answer:
            assert (answer.status, bool(answer.read())) == (200, True)
    assert house.stop() == 0
