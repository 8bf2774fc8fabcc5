"""Look up models without generating: those on offer, those in memory, and the details of one.

A look-up is no turn: no model runs for it, so it is neither budgeted nor kept in the ledger.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from epad.gateway import refusal as refuse
from epad.gateway.dialects import body as json_body
from epad.gateway.dialects.dialect import Catalogue, Dialect
from epad.gateway.errors import RequestError, UpstreamError
from epad.gateway.http.message import Field, Fields
from epad.gateway.refusal import RefusalError
from epad.gateway.upstream import Route, Upstream, Upstreams

_LOOKUP_SECONDS = 10.0
_CARD_FIELDS = frozenset({"model", "name"})
_JSON: Field = (b"Content-Type", b"application/json")

Entry = dict[str, object]


@dataclass(frozen=True, slots=True)
class Question:
    """A look-up as it was asked."""

    body: bytes
    fields: Fields


@dataclass(frozen=True, slots=True)
class Reply:
    """A look-up's answer."""

    body: bytes
    status: int = 200
    fields: list[Field] = field(default_factory=lambda: [_JSON])


class Lookup(Protocol):
    """Describes a route that only reads from the model servers."""

    method: str

    @property
    def path(self) -> str: ...

    @property
    def dialect(self) -> Dialect: ...

    async def answer(self, upstreams: Upstreams, question: Question) -> Reply:
        """Ask whom it concerns. Raises UpstreamError, RequestError, RefusalError."""
        ...


@dataclass(frozen=True, slots=True)
class _Listed:
    """Holds one upstream's list as it came, and the entries that are routed there and not to one before it."""

    body: bytes
    entries: list[Entry]
    whole: bool


class ModelList:
    """Answers GET of a list of models: every upstream's own, cut down to the models routed there."""

    method = "GET"

    def __init__(self, dialect: Dialect, catalogue: Catalogue | None = None) -> None:
        self.dialect = dialect
        self.catalogue = catalogue or dialect.catalogue
        self.path = self.catalogue.path

    async def answer(self, upstreams: Upstreams, question: Question) -> Reply:
        """Answer with one list; that of a single upstream as it came. One that does not answer is left out."""
        del question
        lists = await self.lists(upstreams)
        if len(lists) == 1 and lists[0].whole:
            return Reply(lists[0].body)
        entries = [entry for each in lists for entry in each.entries]
        envelope = dict(self.catalogue.envelope)
        if "first_id" in envelope and entries:
            envelope |= {
                "first_id": entries[0][self.catalogue.name],
                "last_id": entries[-1][self.catalogue.name],
            }
        return Reply(msgspec.json.encode({**envelope, self.catalogue.entries: entries}))

    async def lists(self, upstreams: Upstreams) -> list[_Listed]:
        """Return the lists of those that answer. Raises UpstreamError if none does."""
        asked = upstreams.of(self.dialect.name)
        results = await asyncio.gather(
            *(self._list(upstreams, upstream) for upstream in asked), return_exceptions=True
        )
        failures = [result for result in results if isinstance(result, BaseException)]
        for failure in failures:
            if not isinstance(failure, UpstreamError) or len(failures) == len(asked):
                raise failure
        return [result for result in results if isinstance(result, _Listed)]

    async def _list(self, upstreams: Upstreams, upstream: Upstream) -> _Listed:
        catalogue, dialect = self.catalogue, self.dialect.name
        body = await upstreams.get(upstream, catalogue.path)
        try:
            answer = msgspec.json.decode(body, type=Entry)
            listed = msgspec.convert(answer.get(catalogue.entries) or [], type=list[Entry])
        except msgspec.MsgspecError as error:
            message = f"upstream {upstream.name}: {catalogue.path} is not readable: {error}"
            raise UpstreamError(message) from error
        routed = [
            entry
            for entry in listed
            if upstream in upstreams.routes(str(entry.get(catalogue.name, "")), dialect)[:1]
        ]
        entries = [_in_words_of(dialect, entry) for entry in routed]
        return _Listed(body, entries, whole=entries == listed)


class ModelEntry:
    """GET of one model by its name: its entry in the list, since not every server has it on its own."""

    method = "GET"

    def __init__(self, dialect: Dialect, model: str) -> None:
        self.dialect = dialect
        self.path = f"{dialect.catalogue.path}/{model}"
        self._model = model
        self._list = ModelList(dialect)

    async def answer(self, upstreams: Upstreams, question: Question) -> Reply:
        """Answer with the entry."""
        del question
        for listed in await self._list.lists(upstreams):
            for entry in listed.entries:
                if entry.get(self._list.catalogue.name) == self._model:
                    return Reply(msgspec.json.encode(entry))
        raise RefusalError(_unknown(upstreams, self._model, self.dialect))


class ModelCard:
    """Answers POST /api/show: a model's details as they came from the upstream that serves it."""

    method = "POST"
    path = "/api/show"

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect

    async def answer(self, upstreams: Upstreams, question: Question) -> Reply:
        """Pass the question on, and the answer back."""
        fields = json_body.read_object(question.body, _CARD_FIELDS)
        model = fields.read("model", str) or fields.read("name", str)
        if not model:
            raise RequestError("model: a model's name is needed")
        serving = upstreams.routes(model, self.dialect.name)
        if not serving:
            raise RefusalError(_unknown(upstreams, model, self.dialect))
        route = Route(serving)
        try:
            async with (
                asyncio.timeout(_LOOKUP_SECONDS),
                await upstreams.post(route, self.path, question.body, question.fields) as answer,
            ):
                return Reply(await answer.read(), answer.status, answer.fields())
        except TimeoutError as error:
            raise UpstreamError(f"upstream {route.name}: no answer on {self.path}") from error


class Version:
    """GET /api/version: that of the first Ollama that answers."""

    method = "GET"
    path = "/api/version"

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect

    async def answer(self, upstreams: Upstreams, question: Question) -> Reply:
        """Pass it on as it came."""
        del question
        failure = UpstreamError("no upstream speaks the ollama dialect")
        for upstream in upstreams.of(self.dialect.name):
            try:
                return Reply(await upstreams.get(upstream, self.path))
            except UpstreamError as error:
                failure = error
        raise failure


def _unknown(upstreams: Upstreams, model: str, dialect: Dialect) -> refuse.Refusal:
    patterns = [pattern for each in upstreams.of(dialect.name) for pattern in each.models]
    return refuse.unknown_model(model, dialect.name, patterns)


def _in_words_of(dialect: str, entry: Entry) -> Entry:
    """Return the entry; one in OpenAI's words from a local server gets the fields that Anthropic's clients read."""
    if dialect != "anthropic" or "type" in entry:
        return entry
    created = entry.get("created")
    stamp = datetime.fromtimestamp(created if isinstance(created, int) else 0, UTC)
    return {**entry, "type": "model", "display_name": entry.get("id"), "created_at": stamp.isoformat()}
