"""Archives: attacks are held while their harmless members are unpacked, and benign twins are unpacked whole."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from hostile_archives import (
    directory,
    file,
    link,
    overlapping_zip,
    path_max_tar,
    tar_of,
    zip64_of,
    zip_of,
)
from tool_process import SECRET, World

FINE = file("fine.txt", b"fine")
ZEROS = bytes(1 << 20)


def planted(world: World, name: str, data: bytes) -> str:
    (world.root / name).write_bytes(data)
    return name


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


TAR_ATTACKS = {
    "climbs": (tar_of(file("../made.txt"), FINE), "leads outside"),
    "climbs inside a name": (tar_of(file("a/../../../made.txt"), FINE), "leads outside"),
    "absolute": (tar_of(file("/tmp/made.txt"), FINE), "leads outside"),
    "through a link": (tar_of(link("up", "../.."), file("up/made.txt"), FINE), "a link"),
    "through a link of links": (
        tar_of(link("a", "."), link("a/b", "../.."), file("b/made.txt"), FINE),
        "a link",
    ),
    "an absolute link": (tar_of(link("etc", "/etc"), file("etc/made.txt"), FINE), "a link"),
    "a hard link outside": (
        tar_of(link("hard", "../../secret.txt", tarfile.LNKTYPE), file("hard"), FINE),
        "a link",
    ),
    "a device": (tar_of(("null", None, {"type": tarfile.CHRTYPE, "devmajor": 1}), FINE), "a device"),
    "a fifo": (tar_of(("fifo", None, {"type": tarfile.FIFOTYPE}), FINE), "a fifo"),
    "a hook": (tar_of(file(".git/hooks/pre-commit", mode=0o755), FINE), "not written by tools"),
    "a hook by case": (tar_of(file(".GIT/hooks/post-checkout"), FINE), "not written by tools"),
    "a shell file": (tar_of(file("home/.bashrc"), FINE), "not written by tools"),
    "a name that is no text": (tar_of(file("\udcff.txt"), FINE), "not UTF-8"),
    "a control character": (tar_of(file("a\x1b[31m"), FINE), "control characters"),
    "a long name": (tar_of(file("x" * 300), FINE), "over 255 bytes"),
    "a deep name": (tar_of(file("a/" * 70 + "b"), FINE), "64 directories deep"),
    "PATH_MAX (CVE-2025-4517)": (path_max_tar(), "a link"),
}


@pytest.mark.parametrize("name", TAR_ATTACKS)
def test_a_hostile_member_is_told_and_the_others_are_unpacked(world: World, name: str) -> None:
    """Nothing is made outside, nothing is changed there, and no link is made inside."""
    data, why = TAR_ATTACKS[name]
    outside = world.outside()
    unpacked = world.worker("tar_extract", path=planted(world, "hostile.tar", data), destination="out")
    assert why in " ".join(each["why"] for each in unpacked["refused"])
    assert (world.root / "out" / "fine.txt").read_text() == "fine"
    assert world.outside() == outside
    assert world.secret.read_text() == SECRET
    assert not Path("/tmp/made.txt").exists()
    assert not [path for path in (world.root / "out").rglob("*") if path.is_symlink()]


ZIP_ATTACKS = {
    "climbs": (zip_of(("../made.txt", b"x"), ("fine.txt", b"fine")), "leads outside"),
    "climbs by backslashes": (zip_of(("..\\..\\made.txt", b"x"), ("fine.txt", b"fine")), "leads outside"),
    "absolute": (zip_of(("/tmp/made.txt", b"x"), ("fine.txt", b"fine")), "leads outside"),
    "a hook": (zip_of((".git/config", b"x"), ("fine.txt", b"fine")), "not written by tools"),
    "a name twice": (zip_of(("fine.txt", b"fine"), ("fine.txt", b"other")), "something at"),
}


@pytest.mark.parametrize("name", ZIP_ATTACKS)
def test_a_hostile_zip_is_unpacked_but_for_its_hostile_member(world: World, name: str) -> None:
    """The first of two members with one name counts."""
    data, why = ZIP_ATTACKS[name]
    outside = world.outside()
    unpacked = world.worker("zip_extract", path=planted(world, "hostile.zip", data), destination="out")
    assert why in unpacked["refused"][0]["why"]
    assert tree(world.root / "out") == {"fine.txt": b"fine"}
    assert world.outside() == outside
    assert not Path("/tmp/made.txt").exists()


def test_a_link_in_a_zip_is_refused(world: World) -> None:
    """As its mode says; and a member that is encrypted, and one of an unknown compression."""
    linked = zip_of(("up", b"../.."), external_attr=0o120777 << 16)
    encrypted, unknown = bytearray(zip_of(("a", b"x"))), bytearray(zip_of(("a", b"x")))
    for at in (encrypted.find(b"PK\3\4") + 6, encrypted.find(b"PK\1\2") + 8):
        encrypted[at] |= 1
    for at in (unknown.find(b"PK\3\4") + 8, unknown.find(b"PK\1\2") + 10):
        unknown[at] = 97
    for data, why in ((linked, "it is a link"), (bytes(encrypted), "encrypted"), (bytes(unknown), "97")):
        said = world.worker.refusal(
            "zip_extract", path=planted(world, "hostile.zip", data), destination="out"
        )
        assert why in said
    assert not list((world.root / "out").iterdir())


def zeros_zip(mebibytes: int) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made, made.open("zeros", "w") as member:
        for _ in range(mebibytes):
            member.write(ZEROS)
    return packed.getvalue()


BOMBS = {
    "zeros": ("zip_extract", lambda: zeros_zip(300), "over 268435456 bytes"),
    "a ratio": ("zip_extract", lambda: zeros_zip(20), "bomb"),
    "overlapping": ("zip_extract", overlapping_zip, "lies over another one"),
    "a count": ("zip_extract", lambda: zip_of(*((str(n), b"") for n in range(5001))), "5001 members"),
    "tar of zeros": ("tar_extract", lambda: tar_of(file("zeros", bytes(20 << 20))), "bomb"),
    "tar of bzip2": ("tar_extract", lambda: tar_of(file("zeros", bytes(20 << 20)), mode="w:bz2"), "bomb"),
    "tar of xz": ("tar_extract", lambda: tar_of(file("zeros", bytes(20 << 20)), mode="w:xz"), "bomb"),
    "a header of zeros": (
        "tar_extract",
        lambda: tar_of(file("a", pax_headers={"comment": "0" * (20 << 20)})),
        "bomb",
    ),
    "tar of many": ("tar_extract", lambda: tar_of(*(file(str(n), b"") for n in range(5001))), "5000 members"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_anything_is_written(world: World, name: str) -> None:
    """With the reason; there is no directory and no temporary file afterwards."""
    tool, make, why = BOMBS[name]
    assert why in world.worker.refusal(tool, path=planted(world, "bomb", make()), destination="out")
    assert not (world.root / "out").exists()
    assert not list(world.root.rglob(".epad-*"))


DAMAGED = [
    ("zip_extract", b"", "its end is missing"),
    ("zip_extract", b"PK\5\6", "its end is missing"),
    ("zip_extract", zip_of(("a", b"x" * 1000))[50:], "not a zip"),
    ("zip_extract", zip_of(("a", b"abc")).replace(b"a", b"b", 1), "differ"),
    ("tar_extract", b"", "not a tar"),
    ("tar_extract", b"x" * 600, "not a tar"),
    ("tar_extract", tar_of(FINE)[:40], "not a tar"),
    ("tar_extract", b"\x28\xb5\x2f\xfd" + b"x" * 600, "zstd"),
    ("tar_extract", tar_of(file("a", os.urandom(100_000)), mode="w")[:50_000], "end of data"),
    ("tar_extract", tar_of(FINE, file("b"), mode="w")[:1300], "header is broken"),
    ("tar_extract", tar_of(FINE, file("b"), mode="w").replace(b"b", b"c", 1), "header is broken"),
]


@pytest.mark.parametrize(("tool", "data", "why"), DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_archive_is_told(world: World, tool: str, data: bytes, why: str) -> None:
    """Whatever the library says of it; no half of a file is left."""
    assert why in world.worker.refusal(tool, path=planted(world, "broken", data), destination="out")
    assert not [path for path in world.root.rglob("*") if path.name.startswith(".epad-")]


def test_a_size_below_zero_ends(world: World) -> None:
    """CVE-2025-8194: the library would go back to the header for ever."""
    data = bytearray(tar_of(FINE, FINE, mode="w"))
    data[124:136] = b"\xff" * 10 + b"\xfe\x00"
    header = data[:512]
    header[148:156] = b" " * 8
    data[148:156] = f"{sum(header):06o}\0 ".encode()
    answer = world.worker.answer(
        "tar_extract", {"path": planted(world, "negative.tar", bytes(data)), "destination": "out"}
    )
    assert answer["ended"] == "error"


MEMBERS = [
    directory("deep"),
    file("deep/er/ü/notes.txt", b"text", mode=0o644),
    file("run.sh", b"#!/bin/sh\n", mode=0o6755),
    file("open.txt", b"x", mode=0o666),
    file("README", b"upper"),
    file("readme", b"lower"),
    file("./dotted.txt", b"x"),
    file("large.bin", os.urandom(3 << 20)),
    file("zeros.bin", ZEROS),
    file("empty", b""),
]
BENIGN = {name: content for name, content, _ in MEMBERS if content is not None}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_benign_tar_is_unpacked_whole(world: World, mode: str) -> None:
    """Deep names, names that differ in case alone; set-user-ID and others' rights to write are dropped."""
    path = planted(world, "benign.tar", tar_of(*MEMBERS, mode=mode))
    unpacked = world.worker("tar_extract", path=path, destination="a/b")
    expected = {name.removeprefix("./"): content for name, content in BENIGN.items()}
    assert tree(world.root / "a" / "b") == expected
    assert (unpacked["count"], unpacked["refused"]) == (len(expected), [])
    modes = [(world.root / "a/b" / name).stat().st_mode & 0o7777 for name in ("run.sh", "open.txt")]
    assert modes == [0o755, 0o644]


def test_a_benign_zip_is_unpacked_whole(world: World) -> None:
    """Stored and deflated, with zip64 fields, names of Windows, and a comment at its end."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        for number, (name, content) in enumerate(BENIGN.items()):
            made.writestr(
                name, content, [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA][number % 3]
            )
        made.comment = b"PK" * 100
    unpacked = world.worker(
        "zip_extract", path=planted(world, "benign.zip", packed.getvalue()), destination="out"
    )
    expected = {name.removeprefix("./"): content for name, content in BENIGN.items()}
    assert tree(world.root / "out") == expected
    assert unpacked["bytes"] == sum(map(len, expected.values()))
    for data, name in ((zip64_of("a.txt", b"x" * 10), "a.txt"), (zip_of(("b\\c.txt", b"x")), "b/c.txt")):
        world.worker("zip_extract", path=planted(world, "next.zip", data), destination="next")
        assert (world.root / "next" / name).exists()


def test_two_gzip_streams_are_one_archive(world: World) -> None:
    """As `cat` and parallel compressors make them."""
    plain = tar_of(*MEMBERS, mode="w")
    data = gzip.compress(plain[: len(plain) // 2]) + gzip.compress(plain[len(plain) // 2 :])
    unpacked = world.worker("tar_extract", path=planted(world, "two.tar.gz", data), destination="out")
    assert unpacked["count"] == len(BENIGN)


def test_what_is_there_is_not_replaced(world: World) -> None:
    """The member is told, and the file keeps its content."""
    (world.root / "out").mkdir()
    (world.root / "out" / "README").write_text("mine")
    unpacked = world.worker(
        "tar_extract", path=planted(world, "benign.tar", tar_of(*MEMBERS)), destination="out"
    )
    assert [each["name"] for each in unpacked["refused"]] == ["README"]
    assert (world.root / "out" / "README").read_text() == "mine"


def test_a_link_of_the_workspace_leads_no_member_outside(world: World) -> None:
    """A directory of that name is a link that somebody made before; one that leads inside is followed."""
    (world.root / "out").mkdir()
    (world.root / "out" / "deep").symlink_to(world.folder)
    outside = world.outside()
    data = tar_of(file("deep/made.txt"), FINE)
    unpacked = world.worker("tar_extract", path=planted(world, "a.tar", data), destination="out")
    assert "outside" in unpacked["refused"][0]["why"]
    assert world.outside() == outside
    (world.root / "out" / "deep").unlink()
    (world.root / "out" / "deep").symlink_to("../docs")
    world.worker(
        "tar_extract", path=planted(world, "b.tar", tar_of(file("deep/made.txt"))), destination="out"
    )
    assert (world.root / "docs" / "made.txt").exists()


@pytest.mark.parametrize(("tool", "path"), [("tar_extract", "pack.tar.gz"), ("zip_extract", "pack.zip")])
def test_unpacking_is_undone(world: World, tool: str, path: str) -> None:
    """Files and the directories that were made for them."""
    before = tree(world.root)
    answer = world.worker.answer(tool, {"path": path, "destination": "x/y"}, turn=f"undo-{tool}")
    assert answer["result"]["undo"] == f"undo-{tool}"
    assert [path for path, _, _ in answer["effects"]][:2] == ["x", "x/y"]
    world.worker.send({"id": 20_000, "undo": f"undo-{tool}"})
    assert world.worker.receive()["result"]["changed_since"] == []
    assert tree(world.root) == before
    assert not (world.root / "x").exists()


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz", "none", "zip"])
def test_what_is_packed_is_unpacked_again(world: World, compression: str) -> None:
    """Content, directories and the right to execute; links are left out, and the same files give the same bytes."""
    (world.root / "docs" / "link").symlink_to("index.md")
    (world.root / "docs" / "run.sh").write_text("x")
    (world.root / "docs" / "run.sh").chmod(0o755)
    (world.root / "docs" / "empty").mkdir()
    (world.root / ".ssh").mkdir()
    (world.root / ".ssh" / "id").write_text(SECRET)
    kind = "zip" if compression == "zip" else "tar"
    options = {} if kind == "zip" else {"compression": compression}
    made = [
        world.worker(f"{kind}_create", paths=["docs", "notes.txt"], destination=name, **options)
        for name in ("one", "two")
    ]
    assert (made[0]["files"], made[0]["left_out"]) == (3, 1)
    assert made[0]["sha256"] == made[1]["sha256"]
    assert made[0]["bytes"] == (world.root / "one").stat().st_size
    world.worker(f"{kind}_extract", path="one", destination="out")
    kept = {name: text for name, text in tree(world.root / "docs").items() if name != "link"}
    assert tree(world.root / "out" / "docs") == kept
    assert (world.root / "out/docs/run.sh").stat().st_mode & 0o777 == 0o755
    assert (world.root / "out/docs/empty").is_dir()
    world.worker(f"{kind}_create", paths=["."], destination="all", **options)
    assert SECRET.encode() not in (world.root / "all").read_bytes()


def test_packing_is_refused_in_words(world: World) -> None:
    """Outside, protected, taken, missing, and a name that is no text."""
    rows = [
        (["../secret.txt"], "new.zip", "outside"),
        (["notes.txt"], ".git/new.zip", "not written"),
        (["notes.txt"], "old.txt", "already"),
        (["nothing"], "new.zip", "no such file"),
        ([".ssh"], "new.zip", "not read"),
    ]
    (world.root / ".ssh").mkdir()
    for paths, destination, why in rows:
        assert why in world.worker.refusal("zip_create", paths=paths, destination=destination)
    (world.root / os.fsdecode(b"\xff")).touch()
    assert "not UTF-8" in world.worker.refusal("tar_create", paths=["."], destination="new.tar")
    with (world.root / "huge").open("wb") as huge:
        huge.truncate(1 << 30)
    assert "in parts" in world.worker.refusal("zip_create", paths=["huge"], destination="new.zip")


def test_members_are_listed(world: World) -> None:
    """A bomb as well, with its ratio: a listing unpacks nothing of a zip."""
    listed = world.worker("archive_list", path=planted(world, "a.tar", tar_of(*MEMBERS, link("l", "/etc"))))
    assert {"name": "l", "bytes": 0, "type": "link"} in listed["entries"]
    assert {"name": "run.sh", "bytes": 10, "type": "file"} in listed["entries"]
    assert world.worker("archive_list", path="a.tar", limit=2)["truncated"]
    zeros = world.worker("archive_list", path=planted(world, "zeros.zip", zeros_zip(20)))
    assert zeros["ratio"] > 500
    (world.root / "hostile.tar").write_bytes(TAR_ATTACKS["a name that is no text"][0])
    assert world.worker("archive_list", path="hostile.tar")["entries"][0]["name"] == "\\xff.txt"
    assert "not a tar" in world.worker.refusal("archive_list", path="notes.txt")


@pytest.mark.parametrize(("tool", "path"), [("tar_extract", "pack.tar.gz"), ("zip_extract", "pack.zip")])
def test_a_destination_that_is_too_deep_makes_nothing(world: World, tool: str, path: str) -> None:
    """Refused before the first directory; one that is less deep is made."""
    refused = world.worker.refusal(tool, path=path, destination="deep/" * 3000 + "x")
    assert "directories deep" in refused
    assert not (world.root / "deep").exists()
    assert world.worker(tool, path=path, destination="deep/" * 20 + "x")["files"]
