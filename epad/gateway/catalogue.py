"""The models on offer: every upstream's own list, cut down to what is routed there."""

from __future__ import annotations

import asyncio

import msgspec

from epad.gateway.dialects.dialect import Dialect
from epad.gateway.errors import UpstreamError
from epad.gateway.upstream import Upstream, Upstreams


async def list_models(upstreams: Upstreams, dialect: Dialect) -> bytes:
    """The list in the dialect's shape. An upstream that does not answer is left out.

    Raises UpstreamError if none answers.
    """
    asked = upstreams.of(dialect.name)
    results = await asyncio.gather(
        *(_entries(upstreams, upstream, dialect) for upstream in asked), return_exceptions=True
    )
    entries = [entry for result in results if isinstance(result, list) for entry in result]
    failures = [result for result in results if isinstance(result, BaseException)]
    for failure in failures:
        if not isinstance(failure, UpstreamError) or len(failures) == len(asked):
            raise failure
    catalogue = dialect.catalogue
    return msgspec.json.encode({**catalogue.envelope, catalogue.entries: entries})


async def _entries(upstreams: Upstreams, upstream: Upstream, dialect: Dialect) -> list[dict[str, object]]:
    """The models of one upstream that are asked of it, rather than of one before it. Raises UpstreamError."""
    catalogue = dialect.catalogue
    body = await upstreams.get(upstream, catalogue.path)
    try:
        answer = msgspec.json.decode(body, type=dict[str, object])
        listed = msgspec.convert(answer.get(catalogue.entries) or [], type=list[dict[str, object]])
    except msgspec.MsgspecError as error:
        raise UpstreamError(f"upstream {upstream.name}: {catalogue.path} is not readable: {error}") from error
    return [
        entry
        for entry in listed
        if upstreams.route(str(entry.get(catalogue.name, "")), dialect.name) is upstream
    ]
