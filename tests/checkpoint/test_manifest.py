"""MANIFEST.json and its companions."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from epad.checkpoint.manifest import Manifest, Part, decode, encode, sums
from epad.copying.errors import BundleDamagedError

PLACE = Path("/bundles/1/MANIFEST.json")


def manifest(*parts: Part, schema: int = 1) -> Manifest:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Manifest(
        schema, "0.1.0", "20260101T000000Z-000001", "checkpoint", "why", at, {"b": 1, "a": 2}, parts
    )


def part(file: str, error: str = "") -> Part:
    return Part("name", file, 1, "0" * 64, "copy", "/origin", error=error)


def test_it_is_sorted_and_reads_back() -> None:
    """The same content is the same bytes, in an order people can search."""
    whole = manifest(part("a"), part("", "gone"))
    encoded = encode(whole)
    assert decode(encoded, PLACE) == whole
    assert list(json.loads(encoded)) == sorted(json.loads(encoded))
    assert encoded.endswith(b"}\n")
    assert whole.lost == (part("", "gone"),)
    assert whole.files == (part("a"),)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[1]"])
def test_what_is_no_manifest_is_damage_with_a_place(data: bytes) -> None:
    """A reader is told which file, and what to do."""
    with pytest.raises(BundleDamagedError, match=str(PLACE)):
        decode(data, PLACE)


def test_a_newer_schema_is_not_guessed_at() -> None:
    """An old epad leaves a new bundle alone."""
    with pytest.raises(BundleDamagedError, match="newer"):
        decode(encode(manifest(schema=2)), PLACE)


@pytest.mark.parametrize("file", ["../x", "/etc/passwd", "a/../../x", "a/./b", "VERIFIED"])
def test_a_manifest_cannot_point_outside_its_bundle(file: str) -> None:
    """A restore follows these names: they must stay inside."""
    with pytest.raises(BundleDamagedError, match="outside"):
        decode(encode(manifest(part(file))), PLACE)


def test_sha256sum_reads_names_with_backslashes(tmp_path: Path) -> None:
    """The list works for names that need coreutils' escape."""
    if not shutil.which("sha256sum"):
        pytest.skip("no sha256sum here")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    odd = manifest(Part("name", "a\\nb", 0, empty, "copy", "/origin"))
    (tmp_path / "a\\nb").touch()
    (tmp_path / "MANIFEST.json").write_bytes(encode(odd))
    (tmp_path / "SHA256SUMS").write_bytes(sums(odd, encode(odd)))
    subprocess.run(["sha256sum", "-c", "--strict", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=True)
