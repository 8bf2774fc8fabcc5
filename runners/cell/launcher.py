"""Make one cell as the program of a systemd unit, and hand the unit over to the cell's first process.

    systemd -- exec --> launcher (the unit's main process) -- as in build.py --> first process --> program
    launcher -- MAINPID=, READY=1 --> systemd; then it ends

So the unit's main process is the cell's first process, whose end and status systemd keeps for whichever daemon asks.
The order comes by the standard input, a socket from the daemon, and the answer goes there; the orders are those of
zygote.py, without the socket to answer on.
"""

from __future__ import annotations

import array
import json
import os
import select
import socket
import sys
from functools import partial
from typing import Final

sys.path.insert(0, __file__.rsplit("/", 3)[0])  # `python -I` does not look beside the program

from runners.cell import reopen
from runners.cell.build import build
from runners.cell.plan import CellPlan

_MESSAGE_BYTES: Final = 1 << 12
_BARRIER_MS: Final = 5_000


def main() -> None:
    """Carry out the one order that waits for us."""
    control = socket.socket(fileno=os.dup(0))
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    message, (given, *_), _, _ = socket.recv_fds(control, _MESSAGE_BYTES, 1)
    order = json.loads(message)
    if order["order"] == "reopen":
        reopen.reopen(given, order, control)
    os.lseek(given, 0, os.SEEK_SET)
    with os.fdopen(given, "rb") as file:
        plan = CellPlan.from_json(file.read())
    streams = [os.dup(number) for number in range(3)]
    build(plan, streams, control, begun=partial(_hand_over, _systemd()))


def _systemd() -> socket.socket:
    """Return a socket that leads to systemd: made before the cell, whose root becomes ours too. Raises OSError."""
    address = os.environ["NOTIFY_SOCKET"]
    link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    link.connect(f"\0{address[1:]}" if address.startswith("@") else address)
    return link


def _hand_over(link: socket.socket, pid: int) -> int:
    """Name the unit's main process to systemd, and wait until that is known: we end at once, and would be nobody.

    Returns the status to end with. A first process that has ended already is refused by systemd, which takes our status
    for the unit's then: so it is that one's. It is left unreaped, since systemd may have accepted it after all.
    """
    reading, writing = os.pipe()
    link.send(f"MAINPID={pid}\nREADY=1".encode())
    link.sendmsg([b"BARRIER=1"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writing]))])
    os.close(writing)
    poll = select.poll()
    poll.register(reading, 0)  # systemd closes its copy of the other end when it has read what came before
    poll.poll(_BARRIER_MS)
    os.close(reading)
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return ended.si_status if ended is not None and ended.si_code == os.CLD_EXITED else 0


if __name__ == "__main__":
    main()
