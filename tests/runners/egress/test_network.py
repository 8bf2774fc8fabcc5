"""The machine's own network: names, own addresses, connections with TLS and without."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
from certificates import certificate

from runners.egress.network import SystemNetwork


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read(100))
    await writer.drain()
    writer.close()


async def test_a_name_has_each_of_its_addresses_once() -> None:
    addresses = await SystemNetwork().look_up("localhost")
    assert {"127.0.0.1", "::1"} & set(addresses)
    assert len(addresses) == len(set(addresses))


async def test_a_name_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(socket.gaierror):
        await SystemNetwork().look_up("nowhere.invalid")


@pytest.mark.parametrize(("address", "own"), [("127.0.0.1", True), ("127.0.0.2", True), ("192.0.2.1", False)])
def test_an_address_of_this_machine_is_told(address: str, own: bool) -> None:
    """Also the second one of an interface."""
    assert SystemNetwork().is_own(address) is own


async def test_where_nobody_listens_there_is_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = int(closed.getsockname()[1])
    with pytest.raises(ConnectionRefusedError):
        await SystemNetwork().connect("127.0.0.1", port)


async def test_over_tls_a_server_must_prove_its_name(tmp_path: Path) -> None:
    """By a certificate that is trusted, and that has the name."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=certificate(tmp_path / "pem", "a.example"))
    port = int(server.sockets[0].getsockname()[1])
    network = SystemNetwork()
    with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
        await network.connect("127.0.0.1", port, "a.example")
    network._tls = ssl.create_default_context(cafile=str(tmp_path / "pem"))
    with pytest.raises(ssl.SSLCertVerificationError, match=r"b\.example"):
        await network.connect("127.0.0.1", port, "b.example")
    reader, writer = await network.connect("127.0.0.1", port, "a.example")
    writer.write(b"hello")
    assert await reader.read() == b"hello"
    writer.close()
    server.close()
