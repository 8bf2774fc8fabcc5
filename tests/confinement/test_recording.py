"""What is read out of a recorder's lines."""

from __future__ import annotations

import re

import pytest

from epad.confinement.recording import Recording, read_recording


def lines(*texts: str) -> list[str]:
    """Return lines as the recorder writes them: what stands between quotes and angles, in hexadecimal."""

    def escaped(match: re.Match[str]) -> str:
        if match[2].startswith(("unfinished", "...")):
            return match[0]
        inner = "".join(f"\\x{byte:02x}" for byte in match[2].encode())
        return f"{match[1]}{inner}{match[3]}"

    return [re.sub(r"([\"<])([^\"<>]*)([\">])", escaped, text) for text in texts]


def read(*texts: str) -> Recording:
    return read_recording(lines(*texts), "/w")


def test_files_are_read_listed_and_written() -> None:
    """By their flags; what is behind a link as well as the link."""
    found = read(
        '7 openat(AT_FDCWD</w>, "a", O_RDONLY|O_CLOEXEC) = 3</srv/a>',
        '7 openat(AT_FDCWD</w>, "/docs", O_RDONLY|O_DIRECTORY) = 3</docs>',
        '7 openat(AT_FDCWD</w>, "new", O_WRONLY|O_CREAT, 0666) = 3</w/new>',
        '7 openat(5</deep/down>, "../x", O_RDWR) = 3</deep/x>',
        '7 execve("/bin/sh", ["sh"], 0x7ffe /* 3 vars */) = 0',
    )
    assert found.read == {"/w/a", "/srv/a", "/bin/sh"}
    assert found.listed == {"/docs"}
    assert found.written == {"/w/new", "/deep/x"}
    assert found.created == {"/w/new"}


def test_what_failed_was_not_used() -> None:
    """A program looks in many places."""
    found = read(
        '7 openat(AT_FDCWD</w>, "/etc/x", O_RDONLY) = -1 ENOENT (No such file or directory)',
        '7 mkdir("/w/d", 0777) = -1 EEXIST (File exists)',
        "7 exit_group(0) = ?",
        "7 +++ exited with 0 +++",
    )
    assert found == Recording()


def test_changes_of_names_are_writes_to_both() -> None:
    """Of a symbolic link only to the link."""
    found = read('7 rename("a", "b") = 0', '7 symlink("/etc/passwd", "c") = 0', '7 link("d", "e") = 0')
    assert found.written == {"/w/a", "/w/b", "/w/c", "/w/d", "/w/e"}
    assert found.created == {"/w/b", "/w/c", "/w/e"}


def test_what_was_made_and_removed_again_is_passing() -> None:
    """Unless it is made once more."""
    once = ('7 mkdir("t", 0700) = 0', '7 rmdir("t") = 0')
    assert read(*once).passing == {"/w/t"}
    assert read(*once, once[0]).passing == set()


def test_a_path_counts_from_where_its_process_is() -> None:
    """Which it has from the one it came from."""
    found = read(
        '7 chdir("/other") = 0',
        "7 clone3({flags=CLONE_VM}, 88) = 8",
        '8 mkdir("a", 0777) = 0',
        "8 fchdir(3</third>) = 0",
        '8 mkdir("b", 0777) = 0',
        '7 mkdir("c", 0777) = 0',
    )
    assert found.written == {"/other/a", "/third/b", "/other/c"}


def test_calls_that_were_interrupted_by_others_are_put_together() -> None:
    """Each process by itself."""
    found = read(
        '7 openat(AT_FDCWD</w>, "a", O_RDONLY <unfinished ...>',
        '8 mkdir("/d", 0777 <unfinished ...>',
        "7 <... openat resumed>) = 3</w/a>",
        "8 <... mkdir resumed>) = 0",
    )
    assert (found.read, found.written) == ({"/w/a"}, {"/d"})


def test_a_name_can_be_no_part_of_a_line() -> None:
    """A file that is called as the end of a call is a file."""
    assert read('7 openat(AT_FDCWD</w>, "x) = 3", O_RDONLY) = 4</w/x) = 3>').read == {"/w/x) = 3"}


V4 = '{sa_family=AF_INET, sin_port=htons(PORT), sin_addr=inet_addr("192.0.2.7")}, 16'
V6 = '{sa_family=AF_INET6, sin6_port=htons(PORT), inet_pton(AF_INET6, "2001::5", &sin6_addr)}, 28'
UNIX = '{sa_family=AF_UNIX, sun_path="/run/docker.sock"}, 110'


@pytest.mark.parametrize(
    ("to", "result", "connected", "sockets"),
    [
        (V4.replace("PORT", "443"), "0", {("192.0.2.7", 443)}, set()),
        (V6.replace("PORT", "80"), "-1 EINPROGRESS (Operation now in progress)", {("2001::5", 80)}, set()),
        (V4.replace("PORT", "443"), "-1 ECONNREFUSED (Connection refused)", {("192.0.2.7", 443)}, set()),
        (V4.replace("PORT", "53"), "0", set(), set()),
        (UNIX, "0", set(), {"/run/docker.sock"}),
        (UNIX, "-1 ENOENT (No such file or directory)", set(), set()),
    ],
)
def test_whom_it_spoke_to(to: str, result: str, connected: set[tuple[str, int]], sockets: set[str]) -> None:
    """Whether or not anybody answered at an address; the look-ups of names are none of it."""
    found = read(f"7 connect(3<x>, {to}) = {result}")
    assert (found.connected, found.sockets) == (connected, sockets)


def test_its_own_ports_and_the_names_of_addresses_are_known() -> None:
    """By bind, and by the answers of DNS."""
    dns = "\\x00\\x07\\x81\\x80\\x00\\x01\\x00\\x01" + "\\x00" * 4
    asked = "\\x01a\\x07example\\x00\\x00\\x01\\x00\\x01".replace("a", "\\x61", 1)
    asked = asked.replace("example", "".join(f"\\x{byte:02x}" for byte in b"example"))
    record = "\\xc0\\x0c\\x00\\x01\\x00\\x01\\x00\\x00\\x00\\x3c\\x00\\x04\\xc0\\x00\\x02\\x07"
    found = read_recording(
        [
            f'7 recvfrom(5<x>, "{dns}{asked}{record}", 2048, 0, {{sa_family=AF_INET, sin_port=htons(53)}}, [16]) = 60',
            "7 bind(4<x>, {sa_family=AF_INET, sin_port=htons(8080)}, 16) = 0",
        ],
        "/w",
    )
    assert found.names == {"192.0.2.7": "a.example"}
    assert found.ports == {8080}
