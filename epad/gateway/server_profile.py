"""What is known of one upstream's server by now: which kind it is, and how much its models hold."""

from __future__ import annotations

from epad.gateway import server_detection
from epad.gateway.server_detection import MODELS, Head
from epad.gateway.servers import GENERIC, SERVERS, Server, server_named

OLLAMA = SERVERS["ollama"]
_REFUSALS = "what it refused"
_MOST_TOLD = 256


class ServerProfile:
    """One upstream's. A kind that the configuration names stays; one that was told by answers changes with them."""

    def __init__(self, url: str, named: str = "", context_tokens: int = 0) -> None:
        self._url = "" if url.startswith("unix:") else url
        self._named = server_named(named)
        self._most = context_tokens
        self._held: dict[str, dict[str, int]] = {}
        self._bodies: dict[str, bytes] = {}
        self._by_head = False
        self.models: tuple[str, ...] = ()
        self.server = self._named or server_detection.detect_by_address(self._url) or GENERIC

    def for_dialect(self, dialect: str) -> Server:
        """The kind as a request in one dialect takes it: what speaks Ollama's, and says no more, is Ollama."""
        return OLLAMA if self.server is GENERIC and dialect == "ollama" else self.server

    def context(self, model: str) -> int:
        """How many tokens a model holds, prompt and answer together; 0 if that is not known.

        What the configuration says is a bound: of the two the smaller counts.
        """
        for held in self._held.values():
            learnt = server_detection.context_in(held, model)
            if learnt:
                return min(learnt, self._most) if self._most else learnt
        return self._most

    def looked(self, path: str, status: int, head: Head, body: bytes) -> None:
        """Take in what a look got. An answer that tells nothing may be another server's: then nothing is known."""
        if status != 200:
            return
        if self._named is None and path in {server_detection.MODELS, server_detection.TAGS}:
            self._change(server_detection.detect(self._url, head, path, body) or GENERIC, head)
        # A list is the same from look to look, and some are long.
        if body != self._bodies.get(path):
            if path in {server_detection.MODELS, server_detection.TAGS}:
                self.models = server_detection.models_listed(path, body)
            self._bodies[path] = body if len(body) <= server_detection.MOST_BYTES else b""
            self._held = {path: server_detection.contexts(path, body)} | {
                other: held for other, held in self._held.items() if other != path
            }

    def told(self, model: str, tokens: int) -> None:
        """Take in how much a model holds, as a refusal of its server says."""
        said = self._held.setdefault(_REFUSALS, {})
        if len(said) < _MOST_TOLD:
            said[model] = tokens

    def answered(self, head: Head) -> None:
        """Take in the head of a turn's answer: another server may have the port since the last look."""
        if self._named is None and server_detection.contradicts(self.server, self._by_head, head):
            self._change(server_detection.detect(self._url, head) or GENERIC, head)

    def more_to_read(self) -> str:
        """What is to be read beside the list of models, to learn how much they hold; empty if that said it."""
        if not self.server.context_paths or any(self._held.get(MODELS, {}).values()):
            return ""
        return self.server.context_paths[0]

    def _change(self, server: Server, head: Head) -> None:
        self._by_head = server_detection.detect_by_head(head) is server
        if server is not self.server:
            self.server = server
            self._held.clear()
            self.models = ()
            self._bodies.clear()
