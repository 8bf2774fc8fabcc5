"""Answer the tools of the category `ollama`: by a request to epad's own gateway, in the caller's name.

Such a request passes what any of the caller's does: budgets, holds, phases, the ledger. It has a key that is lent for
it, and no way that others lack.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import aiohttp
import msgspec

from epad.gateway.turn import TURN_HEADER
from epad.tools.own import OwnCall, OwnToolError, OwnTools
from runners.tools.ollama import GenerateArgs, GenerateResult, ModelsArgs, ModelsResult

MOST_MODELS: Final = 500


class Keyring(Protocol):
    """The part of `epad.gateway.identity.Identities` that is used."""

    def lend(self, subsystem: str) -> str: ...

    def take_back(self, key: str) -> None: ...


class _Message(msgspec.Struct):
    content: str | None = ""


class _Choice(msgspec.Struct):
    message: _Message


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


@dataclass(frozen=True, slots=True)
class Models:
    """Asks the gateway. `url` returns its address."""

    keyring: Keyring
    url: Callable[[], str]

    async def list(self, call: OwnCall) -> ModelsResult:
        """Name the models."""
        call.checked(ModelsArgs)
        body, _ = await self._ask(call, "GET", "/v1/models", None)
        return ModelsResult(models=[one.id for one in _read(body, _Models).data[:MOST_MODELS]])

    async def generate(self, call: OwnCall) -> GenerateResult:
        """Ask one prompt."""
        args = call.checked(GenerateArgs)
        message = {"role": "user", "content": args.prompt}
        asked = {"model": args.model, "messages": [message], "max_tokens": args.max_tokens}
        body, turn = await self._ask(call, "POST", "/v1/chat/completions", asked)
        answer = _read(body, _Completion)
        usage = answer.usage or _Usage()
        text = answer.choices[0].message.content if answer.choices else ""
        return GenerateResult(
            text=text or "",
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            turn=turn,
        )

    async def _ask(self, call: OwnCall, method: str, path: str, body: object) -> tuple[bytes, str]:
        """Return the body of an answer, and the turn of the request. Raises OwnToolError for a refusal."""
        async with self._key(call.session.subsystem) as key:
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            data = None if body is None else msgspec.json.encode(body)
            try:
                async with (
                    aiohttp.ClientSession() as session,
                    session.request(method, self.url() + path, data=data, headers=headers) as answer,
                ):
                    said, turn = await answer.read(), answer.headers.get(TURN_HEADER.decode(), "")
                    status = answer.status
            except aiohttp.ClientError as error:
                raise OwnToolError(f"the gateway gave no answer: {error}", "call again later") from error
        if status != 200:
            raise _refused(status, said)
        return said, turn

    @asynccontextmanager
    async def _key(self, subsystem: str) -> AsyncIterator[str]:
        key = self.keyring.lend(subsystem)
        try:
            yield key
        finally:
            self.keyring.take_back(key)


def model_tools(models: Models) -> OwnTools:
    """Return the tools of the category."""
    return {"ollama_models": models.list, "ollama_generate": models.generate}


def _read(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise OwnToolError(
            f"the model server's answer cannot be read: {error}", "try another model"
        ) from None


def _refused(status: int, said: bytes) -> OwnToolError:
    try:
        error = msgspec.json.decode(said)["error"]
        message = str(error.get("message", error) if isinstance(error, dict) else error)
    except (msgspec.MsgspecError, LookupError, TypeError):
        message = said[:200].decode(errors="replace")
    return OwnToolError(
        f"the gateway answered {status}: {message[:500]}", "epa_budget and epa_status say more"
    )
