"""Ask a model for one token, to check that it answers: the shortest turn there is, in its server's dialect."""

from __future__ import annotations

import json
from typing import Any

from epad.gateway.dialects import loose
from epad.gateway.errors import UpstreamError
from epad.gateway.http.message import Fields
from epad.gateway.upstream import Route, Upstreams

_MESSAGES = [{"role": "user", "content": "ping"}]
_SHORT: dict[str, dict[str, Any]] = {"ollama": {"options": {"num_predict": 1}, "stream": False}}
_PATHS = {"openai": "/v1/chat/completions", "ollama": "/api/chat", "anthropic": "/v1/messages"}
_BAD_STATUS = 400


class OneToken:
    """Asks through the gateway's upstreams, past its budgets: whether a server works is nobody's spending."""

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams

    async def ask(self, model: str) -> str:
        """Return why no token could be had; empty if one was."""
        for dialect, path in _PATHS.items():
            candidates = self._upstreams.routes(model, dialect)
            if candidates:
                return await self._ask(Route(candidates), dialect, path, model)
        return f"no upstream serves {model}"

    async def _ask(self, route: Route, dialect: str, path: str, model: str) -> str:
        body = {"model": model, "messages": _MESSAGES, **_SHORT.get(dialect, {"max_tokens": 1})}
        try:
            async with await self._upstreams.post(
                route, path, json.dumps(body).encode(), Fields([])
            ) as answer:
                failure = loose.failure_of(loose.as_dict(loose.read(await answer.read())))
                if failure:
                    answer.is_none()
        except UpstreamError as error:
            return str(error)
        if answer.status >= _BAD_STATUS:
            return f"{route.name} answered {answer.status} for {model}"
        return (
            f"{route.name} answered {answer.status} for {model}, with an error: {failure}" if failure else ""
        )
