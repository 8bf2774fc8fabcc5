"""The scan for secrets finds each form that is planted, and nothing where there is none."""

from __future__ import annotations

import base64
import gzip
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from secret_scan import Scan

VALUE = b"ghp_9f/Kd+2m=Qz:w7XnT4cR"
NOISE = b'{"at": "2026-11-30", "event": "egress.opened", "host": "api.github.com"}\n' * 50


def halves(data: bytes, between: bytes) -> bytes:
    return data[:9] + between + data[9:]


def packed(data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        member = tarfile.TarInfo("inner/log")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


PLANTS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda value: value,
    "base64": base64.b64encode,
    "base64 of a header": lambda value: base64.b64encode(b"Bearer " + value + b" and more"),
    "base64 of a password": lambda value: base64.b64encode(b"me:" + value),
    "base64 for URLs": base64.urlsafe_b64encode,
    "hex": lambda value: value.hex().encode(),
    "HEX": lambda value: value.hex().upper().encode(),
    "URL-encoded": lambda value: quote(value.decode(), safe="").encode(),
    "each byte of a URL": lambda value: b"".join(b"%%%02x" % byte for byte in value),
    "over two lines": lambda value: halves(value, b"\n"),
    "over two lines, indented": lambda value: halves(value, b"\r\n    "),
    "over two lines of JSON": lambda value: halves(value, b"\\n"),
    "in two strings of a program": lambda value: halves(value, b'" + "'),
    "base64 over lines": lambda value: halves(base64.b64encode(value), b"\n"),
    "hex over lines": lambda value: halves(value.hex().encode(), b"\n"),
    "utf-16": lambda value: value.decode().encode("utf-16-le"),
    "backwards": lambda value: value[::-1],
    "gzip": gzip.compress,
    "an archive": packed,
    "gzip of base64": lambda value: gzip.compress(base64.b64encode(value)),
}


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_each_planted_form_is_found(plant: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """In the midst of a log; of an archive, in a file of its own. Without it, the same file is clean."""
    data, log = plant(VALUE), tmp_path / "state/logs/agent.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(NOISE)
    assert list(Scan(VALUE).tree(tmp_path)) == []
    log.write_bytes(data if data[:2] == b"\x1f\x8b" else NOISE + data + NOISE)
    assert [leak.place for leak in Scan(VALUE).tree(tmp_path)]


def test_a_file_s_name_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / VALUE.hex()).touch()
    assert [leak.form for leak in Scan(VALUE).tree(tmp_path)] == ["hex"]


def test_a_process_is_looked_at(tmp_path: Path) -> None:
    """Its environment, its words and its memory; one without the value is clean."""
    hold = "kept = bytearray.fromhex(sys.stdin.readline()); print(len(kept), flush=True)"
    code = f"import sys; {hold}; sys.stdin.read()"
    kept = {"PATH": os.environ["PATH"]}
    for words, environment, given, where in (
        ([VALUE.decode()], kept, b"00", "cmdline"),
        ([], {**kept, "TOKEN": VALUE.decode()}, b"00", "environ"),
        ([], kept, VALUE.hex().encode(), "mem"),
        ([], kept, b"00", ""),
    ):
        with subprocess.Popen(
            [sys.executable, "-c", code, *words],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(given + b"\n")
            child.stdin.flush()
            child.stdout.readline()
            found = [leak.place for leak in Scan(VALUE).process(child.pid, memory=True)]
            child.stdin.close()
        assert any(where in place for place in found) if where else found == []
