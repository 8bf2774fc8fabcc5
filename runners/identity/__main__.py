"""`python -m runners.identity FD`: the identity child of epad. FD is its end of the socket pair to the daemon.

It keeps the keys of the trust domain in its memory, and nothing else: it opens no file and no socket, is nobody where
epad is root, and no process of its uid may look into it. It ends with the daemon, whose end of the socket closes then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
import time
from typing import Any, Protocol

from runners.cell import kernel, landlock
from runners.cell.plan import Wall
from runners.identity.agent import Agent
from runners.identity.authority import Kept, bundle_document, certificates, jwt_keys, next_kept
from runners.identity.domain import LOOK_SECONDS, TrustDomain
from runners.identity.link import Link
from runners.identity.messages import Answer, Bundle, Cut, Fault, Issue, Order, Ready, Rotate, Start, Validate
from runners.identity.own import OwnIdentity
from runners.identity.svid import InvalidError, Signer, validated
from runners.identity.workload_api import WorkloadApi, serve

_NOBODY = 65_534


class Answers(Protocol):
    """Answers the daemon's questions: by the keys that are here, or by an agent."""

    async def answer(self, asked: Issue | Validate | Bundle | Rotate) -> Answer:
        """Answer one. Raises OSError."""
        ...


def main() -> int:
    """Serve until the daemon is gone."""
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal():
        print(
            "python -m runners.identity FD: epad starts it; FD is a socket of the daemon's", file=sys.stderr
        )
        return 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's signals are for the daemon
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with socket.socket(fileno=int(sys.argv[1])) as control:
        asyncio.run(_run(control))
    return 0


async def _run(control: socket.socket) -> None:
    link = Link(control)
    ended = asyncio.ensure_future(link.ended.wait())
    first: set[asyncio.Future[Any]] = {ended, link.started}
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    if not link.started.done():
        return
    start, descriptors = link.started.result()
    work = asyncio.ensure_future(
        _ask_agent(link, start) if start.agent else _serve(link, start, descriptors[0])
    )
    await asyncio.wait({ended, work}, return_when=asyncio.FIRST_COMPLETED)
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def _serve(link: Link, start: Start, listening: int) -> None:
    """Be the Workload API of the trust domain."""
    _rehearse(start)
    _confine()
    domain = TrustDomain(start, link.keep)
    api = WorkloadApi(domain, link.who, link.tell)
    link.do = _orders(link, OwnIdentity(domain), api)
    fault = await _refreshed(domain)
    await serve(api, socket.socket(fileno=listening))
    link.tell(Ready())
    told = ""
    while True:
        if fault != told:
            link.tell(Fault(fault))
            told = fault
        await domain.change(LOOK_SECONDS)
        fault = await _refreshed(domain)


async def _refreshed(domain: TrustDomain) -> str:
    """Change the authorities where they are due; without a disk for them they stay. Return why they did."""
    try:
        await domain.refresh()
    except OSError as error:
        return f"new authorities cannot be kept: {error}"
    return ""


async def _ask_agent(link: Link, start: Start) -> None:
    """Be a client of a SPIRE agent, as whom the daemon is."""
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    agent = Agent(start.agent, start.trust_domain)
    link.do = _orders(link, agent, None)
    link.tell(Ready())
    try:
        await asyncio.Event().wait()
    finally:
        agent.close()


class _Orders:
    """Carries out the orders of the daemon."""

    def __init__(self, link: Link, answers: Answers, api: WorkloadApi | None) -> None:
        self._link, self._answers, self._api = link, answers, api

    async def __call__(self, order: Order) -> None:
        match order:
            case Cut(name):
                if self._api is not None:
                    self._api.cut(name)
            case Issue(number) | Validate(number) | Bundle(number) | Rotate(number):
                try:
                    answer = await self._answers.answer(order)
                except (OSError, ValueError) as error:
                    answer = Answer(number, error=str(error) or type(error).__name__)
                self._link.tell(answer)
            case _:
                return


_orders = _Orders


def _rehearse(start: Start) -> None:
    """Do once what is done for clients: what is loaded by that, nobody may not be able to read later."""
    kept, _ = next_kept(Kept("rehearsal"), time.time())
    if kept.signer is None:
        return
    signer = Signer(kept.signer, start.x509_seconds, start.jwt_seconds)
    signer.x509("spiffe://rehearsal/a", time.time())
    token = signer.jwt("spiffe://rehearsal/a", ["b"], time.time()).token
    validated(token, "b", kept)
    with contextlib.suppress(InvalidError):
        validated(token, "c", kept)
    bundle_document(certificates(kept.authorities), jwt_keys(kept), 1)


def _confine() -> None:
    """Give up root and every file: strangers' bytes are read here, beside the keys."""
    if os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        except OSError as error:  # a container without the right to
            print(f"epad: the identity child runs as root: {error.strerror}", file=sys.stderr)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    with contextlib.suppress(OSError):
        version = landlock.version()
        walls = [wall for wall, needed in landlock.ABI.items() if version >= needed and wall in Wall]
        landlock.restrict(landlock.ruleset(walls), [("/", landlock.READ)])


if __name__ == "__main__":
    sys.exit(main())
