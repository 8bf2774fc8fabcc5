"""The gateway: its parts put together, its listeners opened and closed; `request_path.py` has the way of a request."""

from __future__ import annotations

import errno
import os

from epad.answers import status
from epad.configuration.schema import GatewayConfig
from epad.gateway import refusal as refuse
from epad.gateway.authenticator import Doorkeeper
from epad.gateway.budget import Usage
from epad.gateway.cell_doors import CellDoors
from epad.gateway.change import GatewayChanges
from epad.gateway.dialects.dialect import OutputLimits
from epad.gateway.dialects.routes import Routes
from epad.gateway.errors import GatewayError
from epad.gateway.http.server import HttpServer
from epad.gateway.metrics import BUDGET_LIMIT, BUDGET_USED, IN_FLIGHT, show_upstreams
from epad.gateway.own_listeners import open_door
from epad.gateway.parts import GatewayParts
from epad.gateway.prompts import Prompts
from epad.gateway.refusal import RefusalError
from epad.gateway.request_path import RequestPath
from epad.gateway.tokenizing import Tokenizers
from epad.gateway.turns import Turns
from epad.listeners.browser_origin import without_port
from epad.runtime.descriptors import share

# What handlers in flight get after they were severed, before they are cancelled.
_STOP_SECONDS = 2.0
# Of the files that the daemon may have open; each turn has another one, to its upstream.
_CONNECTIONS_PART = 0.4


class Gateway:
    """The one way to a model."""

    def __init__(self, parts: GatewayParts) -> None:
        config = parts.config
        self._parts = parts
        limits = OutputLimits(config.default_output_tokens, config.max_output_tokens, config.template_tokens)
        self._prompts = Prompts(config.template_tokens)
        tokenizers = Tokenizers(parts.upstreams, parts.clock, parts.tokenizer_files)
        self._turns = Turns(parts, limits, self._prompts)
        doorkeeper = Doorkeeper(
            parts.identities, parts.doors, config.anonymous, parts.clock, parts.alarm, _own_names(config)
        )
        self.path = RequestPath(parts, Routes(limits), doorkeeper, self._turns, self._prompts, tokenizers)
        connections = share(_CONNECTIONS_PART, config.max_connections)
        self._server = HttpServer(
            self.path, config.max_body_bytes, config.write_seconds, connections, parts.handover
        )
        self.cell_doors = CellDoors(self._server)
        self.changes = GatewayChanges(parts, self._server, doorkeeper, tokenizers, self._prompts)

    async def start(self, port_hint: int = 0) -> tuple[str, int]:
        """Listen; return where. `port_hint` is the port of last time, taken if the configured port is 0.

        Raises GatewayError if the port is not to be had, UpstreamError if an upstream's key is not.
        """
        await self._parts.upstreams.start()
        host, _, configured = self._parts.config.listen.rpartition(":")
        host = host.strip("[]")
        ports = [int(configured)] if int(configured) else list(dict.fromkeys((port_hint, 0)))
        failure = OSError()
        for port in ports:
            try:
                address = await self._server.listen(host, port)
                break
            except OSError as error:
                failure = error
                self._parts.log.warning("gateway.port_taken", host=host, port=port, error=str(error))
        else:
            await self.stop()
            raise GatewayError(_cannot_listen(self._parts.config.listen, failure))
        for door in self._parts.doors:
            if door.listen:
                await open_door(self._server, door)
        return address

    async def stop(self) -> None:
        """Cut the turns in flight, each in its dialect; return when every turn is closed in the ledger."""
        self.path.close()
        self._turns.admission.close(RefusalError(refuse.STOPPING))
        self._parts.access.sever(None, refuse.STOPPING)
        await self._server.stop(_STOP_SECONDS)
        await self._turns.drain()
        self.path.stop()
        await self._parts.upstreams.stop()

    def gave_back(self) -> None:
        """Let those that wait look again: an amount was given back to a budget."""
        self._turns.admission.settled()

    def upstreams(self) -> list[status.Upstream]:
        """Return each upstream: its name, its URL, its health, and the reason if it is not healthy."""
        return self._parts.upstreams.status()

    def spent(self, subsystem: str) -> dict[str, Usage]:
        """Return the subsystem's limits by name, and the amount spent or reserved against each."""
        return self._parts.budgets.snapshot(subsystem, self._parts.clock.monotonic())

    def show_series(self) -> None:
        """Bring the series of budgets and upstreams up to date, for a scrape; what is no more has none."""
        show_upstreams(self._parts.metrics, self.upstreams())
        budgets, metrics = self._parts.budgets, self._parts.metrics
        in_flight, limits, used = metrics.of(IN_FLIGHT), metrics.of(BUDGET_LIMIT), metrics.of(BUDGET_USED)
        for gauge in (in_flight, limits, used):
            gauge.clear()
        for name in budgets.subsystems:
            in_flight.labels(name).set(budgets.in_flight(name))
            for limit, usage in self.spent(name).items():
                if not limit.startswith("tokens_"):
                    continue  # these series count tokens; money and requests are in the status
                limits.labels(name, limit).set(usage.limit)
                used.labels(name, limit).set(usage.used)


def _own_names(config: GatewayConfig) -> frozenset[str]:
    """Return the public names that the gateway is asked by."""
    return frozenset(map(without_port, (*config.hosts, config.listen)))


def _cannot_listen(listen: str, error: OSError) -> str:
    """Say why the gateway cannot listen, and the fix."""
    where = f"[gateway] listen: {listen} cannot be listened on: "
    if error.errno == errno.EADDRINUSE:
        port = listen.rpartition(":")[2]
        return (
            f"{where}another program has the port; stop that program (`ss -ltnp 'sport = :{port}'` names it), "
            "set another port, or port 0 for one that is free"
        )
    if error.errno == errno.EACCES:
        return f"{where}it is for root alone; set a port of 1024 or above, or port 0 for one that is free"
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"{where}{reason}; set an address of this machine, such as 127.0.0.1:8700"
