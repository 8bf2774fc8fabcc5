"""Programs as they are found in cells, whose TLS the way out reads: they trust the bundle, and notice nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from intercept_world import HOST, READ, UNREAD, VALUE, InterceptWorld, intercept_world
from patience import PATIENCE_SECONDS, until

from epad.confinement.authorities import VARIABLES
from runners.egress.messages import EventKind
from runners.egress.refusal import Why

BEARER = "Authorization: Bearer {{secret:token}}"
CURL = ("curl", "--silent", "--show-error", "--fail-with-body", "-H", BEARER)
URLLIB = (
    "import sys, urllib.request as r; h = dict([sys.argv[2].split(': ')]);"
    " print(r.urlopen(r.Request(sys.argv[1], headers=h)).read().decode())"
)
REQUESTS = (
    "import sys; from pip._vendor import requests as r;"
    " print(r.get(sys.argv[1], headers=dict([sys.argv[2].split(': ')])).text)"
)
NODE = """
const [h, v] = process.argv[2].split(': '), u = new URL(process.argv[1]), p = new URL(process.env.HTTPS_PROXY);
const http = require('http'), https = require('https'), tls = require('tls'), path = u.hostname + ':443';
http.request({host: p.hostname, port: p.port, method: 'CONNECT', path}).on('connect', (_, socket) =>
  https.get({host: u.hostname, path: u.pathname, headers: {[h]: v}, defaultPort: 443,
    createConnection: () => tls.connect({socket, servername: u.hostname})}, a => a.pipe(process.stdout))).end();
"""
"""Of any version: by itself it reads HTTPS_PROXY from 22.21 on."""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[InterceptWorld]:
    async with intercept_world(tmp_path) as one:
        yield one


async def run(world: InterceptWorld, *command: str, **more: str) -> tuple[int, str]:
    """Run a program with the variables of a cell; return its status and all that it printed."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here")
    proxy = f"http://127.0.0.1:{world.door.port}"
    passed = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *command,
        env={
            **passed,
            **dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"), proxy),
            **dict.fromkeys(VARIABLES, str(world.bundle)),
            "HOME": str(world.bundle.parent),
            **more,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        output, _ = await process.communicate()
    return int(process.returncode or 0), output.decode()


@pytest.mark.parametrize(
    "command",
    [
        (*CURL, "--http1.1"),
        CURL,
        (*CURL, "--tlsv1.2", "--tls-max", "1.2"),
        (sys.executable, "-c", URLLIB),
        (sys.executable, "-c", REQUESTS),
        ("node", "-e", NODE),
    ],
    ids=["curl", "curl-h2", "curl-tls1.2", "urllib", "requests", "node"],
)
async def test_a_program_sends_a_secret_that_it_does_not_have(
    world: InterceptWorld, command: tuple[str, ...]
) -> None:
    """To the secret's host; another host that is read is refused it, and told so in words."""
    rest = () if command[0] == "curl" else (BEARER,)
    status, output = await run(world, *command, f"https://{HOST}/a", *rest)
    assert (status, output.strip()) == (0, "ok"), output
    assert f"authorization: Bearer {VALUE}\r\n".encode() in world.server.received[0]
    _, output = await run(world, *command, f"https://{READ}/a", *rest)
    assert VALUE not in output
    assert "the secret token is not for read.example" in output or "403" in output
    assert world.servers[READ].received == []


async def test_curl_sends_large_bodies_in_each_way(world: InterceptWorld, tmp_path: Path) -> None:
    """With its length, in chunks, and after the server's leave; an answer is as long as it was."""
    body = tmp_path / "body"
    body.write_bytes(b"0123456789" * 300_000)
    for options in (["-T", str(body)], ["-T", str(body), "-H", "Transfer-Encoding: chunked"]):
        assert await run(world, *CURL, *options, f"https://{HOST}/put") == (0, "ok")
        assert world.server.received[-1].endswith(body.read_bytes())
    assert b"expect: 100-continue" in world.server.received[0]
    status, output = await run(
        world, *CURL, "-o", "/dev/null", "-w", "%{size_download}", f"https://{HOST}/large"
    )
    assert (status, output) == (0, "5000000")


async def test_curl_keeps_its_connection(world: InterceptWorld) -> None:
    urls = [f"https://{HOST}/{path}" for path in ("a", "chunked", "b")]
    assert await run(world, *CURL, *urls) == (0, "okok!ok")
    assert (world.server.connections, len(world.server.received)) == (1, 3)
    await until(lambda: world.door.of(EventKind.CLOSED), "the end")
    assert len(world.door.of(EventKind.OPENED)) == 1


async def test_git_and_wget_send_it_too(world: InterceptWorld) -> None:
    """Git by its field; wget is told of the bundle by an option, since it reads none of the variables."""
    await run(world, "git", "-c", f"http.extraHeader={BEARER}", "ls-remote", f"https://{HOST}/repository.git")
    assert f"authorization: Bearer {VALUE}\r\n".encode() in world.server.received[0]
    command = ("wget", "-q", "-O", "-", f"--ca-certificate={world.bundle}", f"--header={BEARER}")
    assert await run(world, *command, f"https://{HOST}/wget") == (0, "ok")
    assert f"authorization: Bearer {VALUE}\r\n".encode() in world.server.received[-1]


async def test_openssl_finds_the_chain_right(world: InterceptWorld) -> None:
    """The name, the dates, the constraint of the authority; of a host that is not read it is the server's own."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    proxy = f"127.0.0.1:{world.door.port}"
    common = ("openssl", "s_client", "-proxy", proxy, "-verify_return_error", "-CAfile", str(world.bundle))
    for host, issuer in ((HOST, "epad for the cell of agent"), (UNREAD, UNREAD)):
        status, output = await run(
            world, *common, "-connect", f"{host}:443", "-servername", host, "-verify_hostname", host
        )
        assert "Verify return code: 0 (ok)" in output, (status, output)
        assert f"issuer=CN = {issuer}" in output or f"issuer=CN={issuer}" in output, output


async def test_a_program_that_pins_another_root_fails_cleanly(world: InterceptWorld, tmp_path: Path) -> None:
    """It sends nothing; the way out says which program's trust is missing."""
    status, output = await run(world, *CURL, "--cacert", str(tmp_path / HOST), f"https://{HOST}/a")
    assert (status, "ok" in output.split()) == (60, False)
    refused = await world.door.event(EventKind.REFUSED)
    assert refused.why == Why.NOT_TRUSTED
    assert "SSL_CERT_FILE" in refused.words
    assert world.server.received == []


async def test_an_authority_proves_no_other_host(world: InterceptWorld, tmp_path: Path) -> None:
    """Its key in the wrong hands would be of no use: programs hold it to the hosts that it names."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    from runners.egress.authority import make_leaf  # noqa: PLC0415 (the package is an extra)

    for host, proves in ((HOST, True), (f"below.{HOST}", True), ("bank.example", False), (f"x{READ}", False)):
        leaf = tmp_path / "leaf"
        leaf.write_bytes(make_leaf(world.authority, host))
        status, output = await run(world, "openssl", "verify", "-CAfile", str(world.bundle), str(leaf))
        assert (status == 0) is proves, output
        assert proves or "permitted subtree violation" in output
