"""What an agent needs to work: each a script as its users run it, and the line that it ends with."""

from __future__ import annotations

import shutil
import textwrap
from dataclasses import dataclass

from neighbourhood import PYTHON


@dataclass(frozen=True, slots=True)
class Need:
    """A script for the shell, the programs that it takes, and the last line that it prints."""

    name: str
    script: str
    takes: tuple[str, ...] = ()
    expected: str = "ok"

    @property
    def command(self) -> list[str]:
        return ["sh", "-c", textwrap.dedent(self.script)]

    def lacking(self) -> list[str]:
        """Name the programs that this machine lacks for it."""
        return [program for program in self.takes if shutil.which(program) is None]

    def is_met(self, output: str) -> bool:
        return output.strip().splitlines()[-1:] == [self.expected]


def python(name: str, code: str, *, expected: str = "ok") -> Need:
    """A need that is Python code."""
    return Need(name, f"cat >{name}.py <<'END'\n{code}\nEND\n{PYTHON} {name}.py", (), expected)


NEEDS = (
    Need(
        "git",
        """
        export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        git init -q repo && cd repo && echo x >file && git add . && git commit -qm one && git switch -qc other
        cd .. && git clone -q repo copy && git -C copy log --format=format:ok -1
        """,
        ("git",),
    ),
    Need(
        "make and a compiler",
        """
        printf 'int puts(const char *); int main(void) { puts("ok"); }' >a.c
        printf 'a: a.c\\n\\tcc -o a a.c\\n' >Makefile
        make -s a && ./a
        """,
        ("make", "cc"),
    ),
    Need(
        "node",
        """
        cat >a.js <<'END'
        const server = require("http").createServer((_, answer) => answer.end("ok"));
        server.listen(0, "127.0.0.1", async () => {
          console.log(await (await fetch(`http://127.0.0.1:${server.address().port}`)).text());
          server.close();
        });
        END
        node a.js
        """,
        ("node",),
    ),
    Need("a local time zone", "TZ=Asia/Tokyo date -d @0 +%H", expected="09"),
    Need("a locale", "LC_ALL=C.UTF-8 locale charmap", ("locale",), "UTF-8"),
    Need("pipes and jobs", "(sleep 0.1; echo ok) | tee out & wait; cat out"),
    Need("an archive", "mkdir d && echo ok >d/f && tar czf d.tgz d && rm -r d && tar xzf d.tgz && cat d/f"),
    Need("a temporary file", 'file=$(mktemp) && echo ok >"$file" && cat "$file"'),
    Need(
        "a home to write to", 'mkdir -p "$HOME/.cache" && echo ok >"$HOME/.cache/x" && cat "$HOME/.cache/x"'
    ),
    Need("processes to look at and signal", "sleep 60 & kill $! && wait $!; ps -e >/dev/null && echo ok"),
    Need("who one is", "id -un >/dev/null; test -r /etc/passwd && cat /dev/null && echo ok"),
    python(
        "loopback_server",
        """
import http.server, threading, urllib.request
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
assert urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/").status == 200
print("ok")""",
    ),
    python(
        "several_processes",
        """
import multiprocessing
if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
    with multiprocessing.Manager() as manager:
        assert manager.list([1])[0] == 1
    print("ok")""",
    ),
    python(
        "subprocesses",
        """
import subprocess, sys
print(subprocess.run([sys.executable, "-c", "print('ok')"], capture_output=True, text=True).stdout.strip())""",
    ),
    python(
        "a_terminal",
        """
import os, pty
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("tty", ["tty"])
assert os.read(terminal, 100).startswith(b"/dev/pts/")
print("ok")""",
    ),
    python(
        "a_database",
        """
import sqlite3
database = sqlite3.connect("a.db")
database.execute("PRAGMA journal_mode=WAL")
database.execute("CREATE TABLE t (x)")
database.commit()
print("ok")""",
    ),
    python(
        "a_unix_socket",
        """
import asyncio
async def main():
    server = await asyncio.start_unix_server(lambda reader, writer: writer.close(), "own.sock")
    reader, writer = await asyncio.open_unix_connection("own.sock")
    assert await reader.read() == b""
    writer.close()
    print("ok")
asyncio.run(main())""",
    ),
    python(
        "memory_that_is_not_executed",
        """
import ctypes, mmap, os
file = os.memfd_create("x", os.MFD_CLOEXEC | 8)
os.ftruncate(file, 4096)
mmap.mmap(file, 4096)[:2] = b"ok"
assert ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 7)() == 7
print("ok")""",
    ),
    python(
        "interfaces_and_datagrams",
        """
import socket
assert "lo" in [name for _, name in socket.if_nameindex()]
one, other = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in "12")
one.bind(("127.0.0.1", 0))
other.sendto(b"x", one.getsockname())
assert one.recv(1) == b"x"
assert socket.gethostbyname("localhost") == "127.0.0.1"
print("ok")""",
    ),
)
