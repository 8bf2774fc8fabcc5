"""What each of the gateway's rules costs a request, in processor time: each is asked again and again by itself.

`python bench/gateway_rules.py [--quick] [--json FILE]`. One request and one stream of 20 events go through a whole
gateway in this process; then each rule is asked of them once more, a few milliseconds at a time, and the shortest
time counts: what else runs on the machine can only make it longer. Sockets, tasks, the disk and the detectors
(`bench/observers.py`) are no rules: `bench/gateway.py` has the whole.
"""

# ruff: noqa: SLF001  a rule is asked by itself, wherever it stands

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from _gateway_inside import Inside, inside
from _gateway_load import body
from _gateway_stub import ANSWER, STREAMED, Stub
from _gateway_targets import free_port
from _harness import Row, run

from epad.configuration.schema import BudgetConfig, UpstreamConfig
from epad.gateway import bodies, field_policy, headers
from epad.gateway.admission import Admitted
from epad.gateway.arrivals import Arriving
from epad.gateway.dialects import body as json_body
from epad.gateway.dialects.history import read_history
from epad.gateway.http.request import Request
from epad.gateway.intake import read_now
from epad.gateway.sampling import sampling_of
from epad.gateway.server import Gateway
from epad.gateway.turn import FORWARDED, Turn
from epad.ledger.entry import OpenTurn

_BATCH_SECONDS = 0.003
_LIMIT = 10**12


@dataclass
class Caught:
    """What went through the gateway: the request, its turn, and the gateway's own parts."""

    gateway: Gateway
    requests: list[Request] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)

    def watch(self) -> None:
        """Have each request and turn kept as it passes."""
        receive, forward = self.gateway.path.receive, self.gateway._turns.forward

        def keep_request(request: Request) -> Any:
            self.requests.append(request)
            return receive(request)

        def keep_turn(turn: Turn) -> None:
            self.turns.append(turn)
            forward(turn)

        self.gateway.path.receive = keep_request  # type: ignore[method-assign]
        self.gateway._turns.forward = keep_turn  # type: ignore[method-assign]


def micros(rule: Callable[[], object], seconds: float) -> float:
    """The processor time of one call, in microseconds: that of the quickest of many short batches."""
    count, best, until = 1, float("inf"), time.monotonic() + seconds
    while time.monotonic() < until:
        begun = time.process_time()
        for _ in range(count):
            rule()
        spent = time.process_time() - begun
        if spent < _BATCH_SECONDS:
            count *= 2
            continue
        best = min(best, spent / count)
    return best * 1e6


def rules_of(caught: Caught, payload: bytes) -> Mapping[str, Callable[[], object]]:
    """Each rule, as something to be asked again."""
    gateway, turn = caught.gateway, caught.turns[0]
    request, arrival, parts = caught.requests[0], turn.arrival, caught.gateway._parts
    name, endpoint, ask, prompts = arrival.subsystem, arrival.endpoint, arrival.ask, gateway._prompts
    upstream, wish = arrival.upstream.served_by, gateway._turns.wish(arrival)
    request._parts, request.size = [payload], len(payload)
    fields = json_body.read_object(payload, frozenset())
    asking = field_policy.Asking(endpoint.path, hard=True, counts_money=False, unknown_passes=False)
    reading = read_now(endpoint, request)
    seen = endpoint.read(ANSWER).seen

    def counted_before_whole() -> None:
        allowance: bodies.BodyAllowance = gateway.path.allow(
            request, name, gateway.path.largest(request, name, endpoint)
        )
        allowance.take(request, len(payload))
        allowance.give_back()

    def reserve() -> None:
        admitted = gateway._turns.admission.at_once(name, wish, ask.prompt_digest)
        if isinstance(admitted, Admitted):
            parts.budgets.settle(admitted.reservation, 100, parts.clock.monotonic())
            gateway._turns.admission.settled()

    def answer_read() -> None:
        turn.whole = seen
        turn.status, turn.state = 200, FORWARDED
        turn.charge()

    def opened() -> OpenTurn:
        return OpenTurn(
            turn.id, name, "openai", ask.model, 1, 1, 2, arrival.body_sha256, None, payload, 0, endpoint.path
        )

    return {
        "whose it is: its key's hash, the door, what holds the subsystem": lambda: (
            gateway.path.identify(request),
            parts.access.check(name),
        ),
        "no body is read for a budget that is spent": partial(gateway._turns.admission.foresee, name),
        "bodies are counted before they are whole": counted_before_whole,
        "the body is read: once each field, caps, choices, text alone": partial(endpoint.parse, payload),
        "... of it the digests of the conversation": partial(read_history, fields),
        "the body's SHA-256 for the ledger": lambda: hashlib.sha256(payload).digest(),
        "its way, all of it": lambda: Arriving(request, name, endpoint, 0.0, reading).route(parts, prompts),
        "... of it what its fields do at the server": lambda: field_policy.judge(
            asking, ask, upstream.server, upstream.name, upstream.fields, 0
        ),
        "... of it how large its prompt can be": partial(prompts.bound, upstream, "openai", ask),
        "... of it what its client marks it with": partial(headers.marks, request.fields),
        "the cap is what is left, reserved and settled in every scope": reserve,
        "the entry for the ledger": opened,
        "what tells a sample from a loop": partial(sampling_of, ask),
        "the request as its server gets it": lambda: endpoint.write(
            ask, turn.cap, upstream.habits(endpoint.path, ask.model)
        ),
        "the answer is read field by field": partial(endpoint.read, ANSWER),
        "what it costs": answer_read,
        "what its server counts for prompts is learnt": lambda: prompts.counted(
            upstream, ask, arrival.prompt, 12
        ),
    }


def stream_rules(caught: Caught) -> Mapping[str, Callable[[], object]]:
    """The same of a stream."""
    turn = caught.turns[-1]
    endpoint, ask = turn.arrival.endpoint, turn.arrival.ask
    whole = b"".join(STREAMED)

    def metered(pieces: Sequence[bytes]) -> None:
        meter = endpoint.meter(ask)
        for piece in pieces:
            meter.feed(piece)
            meter.reply.take()
        meter.finish()
        turn.meter, turn.whole = meter, None
        turn.charge()
        meter.reply.digest()

    return {
        "a stream of 20 events that came together: read, heard and charged": partial(metered, (whole,)),
        "... event by event": partial(metered, STREAMED),
    }


async def _serve(port: int) -> asyncio.Server:
    return await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port)


async def _measured(seconds: float, command: str) -> list[Row]:
    port = free_port()
    server = await _serve(port)
    upstreams = {
        "stub": UpstreamConfig(url=f"http://127.0.0.1:{port}/v1", dialects=("openai",), models=("bench",))
    }
    budgets = {"writer": BudgetConfig(tokens_per_minute=_LIMIT, tokens_per_day=_LIMIT, max_in_flight=64)}
    caught: list[Caught] = []

    def began(gateway: Gateway) -> None:
        caught.append(Caught(gateway))
        caught[0].watch()

    async with server, inside(upstreams, budgets, began=began) as world:
        payload = (body(stream=False) % 7).encode()
        await _ask(world, payload)
        await _ask(world, (body(stream=True) % 7).encode())
        rules = {**rules_of(caught[0], payload), **stream_rules(caught[0])}
        return [
            Row(rule, micros(ask, seconds), "us", "", None, n=1, command=command)
            for rule, ask in rules.items()
        ]


async def _ask(world: Inside, payload: bytes) -> None:
    told = await world.ask("/v1/chat/completions", json.loads(payload))
    if told.status != 200:
        raise RuntimeError(f"the gateway answered {told.status}: {told.body[:200]!r}")
    await world.idle()


def measure(quick: bool) -> Sequence[Row]:
    """All rules, one after the other."""
    command = " ".join(["python", "bench/gateway_rules.py", *sys.argv[1:]])
    return asyncio.run(_measured(0.3 if quick else 1.5, command))


if __name__ == "__main__":
    sys.exit(run("gateway_rules", measure))
