"""Judge requests for the daemon, over one socket: frames in and out, as workers of tools have them.

    {"id": 7, "tool": "screen", "arguments": {"bodies": [{...}, ...]}}
    {"id": 7, "result": {"version": 3, "digest": "...", "verdicts": [["attack", "exfiltration", 0.93], ...]}}

A version that has come into force meanwhile is taken up before the next request.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import msgspec

from runners.intent.asked import texts_of
from runners.intent.corpus import shipped
from runners.intent.embedding import Embedder, EmbeddingError
from runners.intent.fitting import Classifier, FitError, Verdict, fit
from runners.intent.versions import VersionError, Versions
from runners.tools.frames import FrameError, Reader, frame

FIRST: Final = "fitted to the texts that come with epad"
NOTHING: Final = Verdict("unsure", "", 0.0)
"""Is said of a request without any text, such as a picture."""
_READ_BYTES: Final = 1 << 18


def fit_first(versions: Versions, embedder: Embedder) -> bool:
    """Fit the first version where there is none; tell if that was so. Raises VersionError, FitError."""
    if versions.current():
        return False
    versions.keep(fit(shipped(), embedder), "epad", FIRST)
    return True


def in_force(versions: Versions, embedder: Embedder) -> tuple[int, Classifier]:
    """Return the version in force. Raises VersionError, FitError."""
    number = versions.current()
    return number, Classifier(versions.load(number), embedder)


def judge(classifier: Classifier, bodies: list[bytes]) -> list[Verdict]:
    """Judge each request by the window of it that is most like an attack."""
    parts = [texts_of(body) for body in bodies]
    verdicts = iter(classifier.judge([text for part in parts for text in part]))
    each = [[next(verdicts) for _ in part] for part in parts]
    return [max(found, key=lambda one: one.score) if found else NOTHING for found in each]


class _Bodies(msgspec.Struct, frozen=True):
    bodies: tuple[msgspec.Raw, ...]


class _Asked(msgspec.Struct, frozen=True):
    """A request; the bodies in it stay as they came."""

    id: int
    arguments: _Bodies


_decode: Final = msgspec.json.Decoder(_Asked).decode


class Server:
    """Answers the requests of one socket."""

    def __init__(self, directory: Path, embedder: Embedder) -> None:
        self._versions = Versions(directory)
        self._embedder = embedder
        self._number, self._classifier = in_force(self._versions, embedder)

    def serve(self, descriptor: int) -> None:
        """Serve until the other end closes."""
        reader = Reader()
        while data := os.read(descriptor, _READ_BYTES):
            for one in reader.feed(data):
                body = frame(msgspec.json.encode(self.answer(one)))
                while body:
                    body = body[os.write(descriptor, body) :]

    def answer(self, request: bytes | FrameError) -> dict[str, Any]:
        """Answer one frame."""
        if isinstance(request, FrameError):
            return {
                "id": request.id,
                "error": str(request),
                "hint": "this is a fault of epad",
                "ended": "error",
            }
        number: int | None = None
        try:
            asked = _decode(request)
            number = asked.id
            self._take_up()
            found = judge(self._classifier, [bytes(one) for one in asked.arguments.bodies])
        except (EmbeddingError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            return {"id": number, "error": str(error), "hint": "see the log of the daemon", "ended": "error"}
        return {
            "id": number,
            "result": {
                "version": self._number,
                "digest": self._classifier.fitted.training_digest,
                "verdicts": [(one.label, one.group, round(one.score, 4)) for one in found],
            },
        }

    def _take_up(self) -> None:
        """Take up the version in force; one that cannot be used is left, and the one of before goes on."""
        try:
            number = self._versions.current()
            if number and number != self._number:
                self._classifier = Classifier(self._versions.load(number), self._embedder)
                self._number = number
        except (VersionError, FitError):
            return
