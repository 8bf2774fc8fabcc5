"""Keep the knowledge about one upstream's server: its kind, and its models' context lengths."""

from __future__ import annotations

from dataclasses import dataclass

from epad.configuration.server_kinds import GENERIC, SERVERS, Server, server_named
from epad.gateway import server_detection
from epad.gateway.objections import Limit
from epad.gateway.server_detection import MODELS, Head

OLLAMA = SERVERS["ollama"]
_MOST_TOLD = 256


@dataclass(frozen=True, slots=True)
class _Refusals:
    """Holds the values written by epad that a model's server refuses, and the largest answer it states."""

    names: frozenset[str] = frozenset()
    context: int = 0
    output: int = 0


_NO_REFUSALS = _Refusals()


class ServerProfile:
    """Keeps the knowledge about one upstream. A configured kind stays; a detected one changes with the answers."""

    def __init__(self, url: str, named: str = "", context_tokens: int = 0) -> None:
        self._url = "" if url.startswith("unix:") else url
        self._named = server_named(named)
        self._most = context_tokens
        self._held: dict[str, dict[str, int]] = {}
        # Asked several times in every turn.
        self._contexts: dict[str, int] = {}
        self._bodies: dict[str, bytes] = {}
        self._by_head = False
        self._refusals: dict[str, _Refusals] = {}
        self.models: tuple[str, ...] = ()
        self.server = self._named or server_detection.detect_by_address(self._url) or GENERIC

    def for_dialect(self, dialect: str) -> Server:
        """Return the kind for a request in one dialect: an unknown server that speaks Ollama's is Ollama."""
        return OLLAMA if self.server is GENERIC and dialect == "ollama" else self.server

    def context(self, model: str) -> int:
        """Return a model's context, prompt and answer together; 0 if that is not known.

        The configured value is a bound: of the two the smaller counts.
        """
        context = self._contexts.get(model)
        if context is None:
            if len(self._contexts) >= _MOST_TOLD:
                self._contexts.clear()  # whoever makes models' names up gains nothing by it
            context = self._contexts[model] = self._context(model)
        return context

    def _context(self, model: str) -> int:
        for held in self._held.values():
            learnt = server_detection.context_in(held, model)
            if learnt:
                return min(learnt, self._most) if self._most else learnt
        return self._most

    def looked(self, path: str, status: int, head: Head, body: bytes) -> None:
        """Take in the answer to a look. One that tells nothing may be another server's: then nothing is known."""
        if status != 200:
            return
        if self._named is None and path in {server_detection.MODELS, server_detection.TAGS}:
            self._change(server_detection.detect(self._url, head, path, body) or GENERIC, head)
        # A list is the same from look to look, and some are long.
        if body != self._bodies.get(path):
            if path in {server_detection.MODELS, server_detection.TAGS}:
                self.models = server_detection.models_listed(path, body)
            self._contexts.clear()
            self._bodies[path] = body if len(body) <= server_detection.MOST_BYTES else b""
            self._held = {path: server_detection.contexts(path, body)} | {
                other: held for other, held in self._held.items() if other != path
            }

    def told(self, model: str, names: frozenset[str], limits: tuple[Limit, ...] = ()) -> None:
        """Take in the refusals of a model's server, and the values that proved right on the second try."""
        known = self._refusals.pop(model, _NO_REFUSALS)  # so that it becomes the last to be forgotten
        context = next((limit.tokens for limit in limits if limit.of_context), known.context)
        output = next((limit.tokens for limit in limits if not limit.of_context), known.output)
        self._refusals[model] = _Refusals(names, context, output)
        if len(self._refusals) > _MOST_TOLD:
            del self._refusals[next(iter(self._refusals))]

    def refused(self, model: str) -> frozenset[str]:
        """Return the values written by epad that a model's server refuses."""
        return self._refusals.get(model, _NO_REFUSALS).names

    def most_output(self, model: str) -> int:
        """Return the longest answer of a model, as a refusal said; 0 if none did."""
        return self._refusals.get(model, _NO_REFUSALS).output

    def room(self, model: str) -> int:
        """Return the room for a model's answer: a refusal tells it if nothing else does."""
        return self.context(model) or self._refusals.get(model, _NO_REFUSALS).context

    def forget_refusals(self) -> None:
        """Forget the refusals: any value may be taken from now on."""
        self._refusals.clear()

    def answered(self, head: Head) -> None:
        """Take in the head of a turn's answer: another server may have the port since the last look."""
        if self._named is not None or not (self._by_head or server_detection.may_tell(head)):
            return
        if server_detection.contradicts(self.server, self._by_head, head):
            self._change(server_detection.detect(self._url, head) or GENERIC, head)

    def more_to_read(self) -> str:
        """Return the path to read beside the list of models for their context lengths; empty if that gave them."""
        if not self.server.context_paths or any(self._held.get(MODELS, {}).values()):
            return ""
        return self.server.context_paths[0]

    def _change(self, server: Server, head: Head) -> None:
        self._by_head = server_detection.detect_by_head(head) is server
        if server is not self.server:
            self.server = server
            self._held.clear()
            self._contexts.clear()
            self._refusals.clear()
            self.models = ()
            self._bodies.clear()
