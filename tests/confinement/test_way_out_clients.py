"""Programs as they are found in cells, at the way out: curl, git, pip, wget and Python, each with code of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from certificates import certificate
from fake_internet import OTHER, PUBLIC, OpenedDoor, internet, opened
from patience import PATIENCE_SECONDS

from runners.egress.messages import EventKind, Secret

HOST = "a.example"
SECRET_HOST = "secret.example"
RULES = (HOST, f"{HOST}:80", "plain.example:80", SECRET_HOST)
SECRETS = (Secret("token", (SECRET_HOST,), "s3cr3t"),)
HELLO = "hello from the server"
URLLIB = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"
REQUESTS = (
    "import sys; from pip._vendor import requests as r; a = r.get(sys.argv[1]); print(a.status_code, a.text)"
)


class Site:
    """Serves the files of a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.heads: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head.decode("latin-1"))
                name = head.split(b" ")[1].decode().partition("?")[0].strip("/")
                found = self._directory / name
                found = found / "index.html" if found.is_dir() else found
                body = found.read_bytes() if found.is_file() else b"not here"
                status = b"200 OK" if found.is_file() else b"404 Not Found"
                kind = b"text/html" if found.suffix == ".html" else b"application/octet-stream"
                writer.write(
                    b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
                    % (status, kind, len(body))
                )
                writer.write(body)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()


@dataclass(frozen=True)
class World:
    """A web site by TLS and without, the door to it, and a cell's environment."""

    site: Path
    served: Site
    door: OpenedDoor
    environment: dict[str, str]

    async def run(self, *command: str, place: Path | None = None) -> tuple[int, str]:
        """Run a program as in a cell; return its status and all that it printed."""
        process = await asyncio.create_subprocess_exec(
            *command,
            env=self.environment,
            cwd=place or self.site,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            output, _ = await process.communicate()
        return int(process.returncode or 0), output.decode()


def environment(port: int, pem: Path, home: Path) -> dict[str, str]:
    """Return the variables of a cell: the door for each protocol, and whom to trust."""
    proxy = f"http://127.0.0.1:{port}"
    names = ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY")
    trusted = (
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "REQUESTS_CA_BUNDLE",
        "PIP_CERT",
        "NODE_EXTRA_CA_CERTS",
    )
    return {
        **{name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ},
        **dict.fromkeys(names, proxy),
        **dict.fromkeys(trusted, str(pem)),
        "HOME": str(home),
        "NO_PROXY": "127.0.0.1,localhost",
    }


@asynccontextmanager
async def a_world(directory: Path) -> AsyncIterator[World]:
    site = directory / "site"
    site.mkdir()
    (site / "hello").write_text(HELLO)
    tls = certificate(directory / "pem", HOST, "b.example", SECRET_HOST)
    served = Site(site)
    async with internet() as net, opened(net, *RULES, secrets=SECRETS) as door:
        net.trusted = ssl.create_default_context(cafile=str(directory / "pem"))
        for host, address in (
            (HOST, PUBLIC),
            ("b.example", OTHER),
            ("plain.example", OTHER),
            (SECRET_HOST, PUBLIC),
        ):
            net.name(host, [address])
        for address in (PUBLIC, OTHER):
            await net.serve(address, 443, served.serve, tls)
            await net.serve(address, 80, served.serve)
        yield World(site, served, door, environment(door.port, directory / "pem", directory))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path) as one:
        yield one


def needs(program: str) -> str:
    """Return a program's path; without it the test is skipped."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"no {program} here")
    return path


async def test_a_secret_is_filled_in_on_the_way(world: World) -> None:
    """The program has its placeholder; the request goes out over TLS, to the host that the secret is for."""
    needs("curl")
    bearer, url = "Authorization: Bearer {{secret:token}}", f"http://{SECRET_HOST}/hello"
    assert await world.run(*CURL, "-H", bearer, url) == (0, HELLO)
    assert "authorization: Bearer s3cr3t\r\n" in world.served.heads[-1]
    assert world.door.of(EventKind.OPENED)[-1].port == 443
    assert await world.run(*CURL, "-u", "me:{{secret:token}}", url) == (0, HELLO)
    assert "authorization: Basic bWU6czNjcjN0\r\n" in world.served.heads[-1]


async def test_a_secret_goes_nowhere_else(world: World) -> None:
    """Neither to another host, nor into a URL."""
    needs("curl")
    seen = len(world.served.heads)
    status, output = await world.run(
        *CURL, "-H", "Authorization: Bearer {{secret:token}}", "http://plain.example/hello"
    )
    assert (status, "the secret token is not for plain.example" in output) == (22, True)
    status, output = await world.run(*CURL, "--globoff", f"http://{SECRET_HOST}/{{{{secret:token}}}}")
    assert (status, "never into a URL" in output) == (22, True)
    assert len(world.served.heads) == seen


CURL = ("curl", "--silent", "--show-error", "--fail-with-body")


@pytest.mark.parametrize("url", [f"https://{HOST}/hello", f"http://{HOST}/hello"])
@pytest.mark.parametrize("options", [(), ("--http1.1",), ("--tlsv1.2", "--tls-max", "1.2")])
async def test_curl_reaches_a_listed_host(world: World, url: str, options: Sequence[str]) -> None:
    needs("curl")
    assert await world.run(*CURL, *options, url) == (0, HELLO)


async def test_curl_reaches_a_listed_host_by_socks5(world: World) -> None:
    """With the name left to the door."""
    needs("curl")
    proxy = f"socks5h://127.0.0.1:{world.door.port}"
    assert await world.run(*CURL, "--proxy", proxy, f"https://{HOST}/hello") == (0, HELLO)
    assert world.door.of(EventKind.OPENED)[0].how == "socks5"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_curl_is_told_why_a_host_is_refused(world: World, scheme: str) -> None:
    needs("curl")
    status, output = await world.run(*CURL, f"{scheme}://b.example/hello")
    assert status != 0
    assert HELLO not in output
    assert "b.example:80 is not among the hosts of agent" in output if scheme == "http" else "403" in output


async def test_curl_cannot_put_one_name_outside_and_another_inside(world: World) -> None:
    """What domain fronting is with this client."""
    needs("curl")
    status, output = await world.run(
        *CURL, "--connect-to", f"b.example:443:{HOST}:443", "https://b.example/hello"
    )
    assert status != 0
    assert HELLO not in output
    assert (await world.door.event(EventKind.REFUSED)).why == "other_server_name"


@pytest.mark.parametrize("program", [URLLIB, REQUESTS], ids=["urllib", "requests"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_python_reaches_a_listed_host_and_no_other(world: World, program: str, scheme: str) -> None:
    status, output = await world.run(sys.executable, "-c", program, f"{scheme}://{HOST}/hello")
    assert (status, HELLO in output) == (0, True), output
    _, output = await world.run(sys.executable, "-c", program, f"{scheme}://b.example/hello")
    assert "403" in output
    assert HELLO not in output


async def test_git_clones_from_a_listed_host(world: World, tmp_path: Path) -> None:
    git = needs("git")
    work, bare = tmp_path / "work", world.site / "repository.git"
    work.mkdir()
    who = ("-c", "user.name=a", "-c", "user.email=a@a.example")
    for command in (
        ["init", "-q", "-b", "main"],
        [*who, "commit", "-q", "--allow-empty", "-m", "the first"],
        ["clone", "-q", "--bare", ".", str(bare)],
        ["-C", str(bare), "update-server-info"],
    ):
        assert await world.run(git, *command, place=work) == (0, "")
    status, output = await world.run(
        git, "clone", "-q", f"https://{HOST}/repository.git", str(tmp_path / "clone")
    )
    assert status == 0, output
    assert "the first" in (await world.run(git, "log", place=tmp_path / "clone"))[1]
    status, output = await world.run(
        git, "clone", "-q", "https://b.example/repository.git", str(tmp_path / "other")
    )
    assert status != 0
    assert "403" in output


def a_wheel(site: Path) -> None:
    """Put a package and its index on the site."""
    place = site / "simple/harmless"
    place.mkdir(parents=True)
    name = "harmless-1.0-py3-none-any.whl"
    with zipfile.ZipFile(place / name, "w") as wheel:
        about = "harmless-1.0.dist-info"
        wheel.writestr("harmless.py", "")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: harmless\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    (place / "index.html").write_text(f'<!DOCTYPE html><html><body><a href="{name}">{name}</a></body></html>')


async def test_pip_installs_from_a_listed_index(world: World, tmp_path: Path) -> None:
    a_wheel(world.site)
    pip = (
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-cache-dir",
        "--disable-pip-version-check",
        "--retries",
        "0",
    )
    command = (*pip, "--target", str(tmp_path / "packages"), "harmless", "--index-url")
    status, output = await world.run(*command, f"https://{HOST}/simple")
    assert status == 0, output
    assert (tmp_path / "packages/harmless.py").is_file()
    status, output = await world.run(*command, "https://b.example/simple")
    assert status != 0
    assert "No matching distribution" in output
    assert world.door.of(EventKind.REFUSED)[0].host == "b.example"


async def test_wget_reaches_a_listed_host(world: World) -> None:
    needs("wget")
    pem = world.environment["SSL_CERT_FILE"]
    command = ("wget", "-q", "-O", "-", f"--ca-certificate={pem}")
    assert await world.run(*command, f"https://{HOST}/hello") == (0, HELLO)
    assert (await world.run(*command, "https://b.example/hello"))[0] != 0
