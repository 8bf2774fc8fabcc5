"""Resources: what a client reads by its URI, such as a result that was too long for its answer."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from epad.tools.protocol import Caller
from epad.tools.wire.asked import Asked, Result
from epad.tools.wire.messages import INVALID_PARAMS, RESOURCE_NOT_FOUND, ProtocolError

_SHOWN_CHARACTERS = 200


class Resource(Struct, frozen=True):
    """Describes one resource, or by `{...}` in its URI a family of them."""

    uri: str
    name: str
    description: str
    mime_type: str


class Content(Struct, frozen=True):
    """Holds what a resource has in it: text, or bytes."""

    uri: str
    mime_type: str
    held: str | bytes


class Resources(Protocol):
    """Lists a caller's resources, and reads them. What a resource holds never changes."""

    def listed(self, caller: Caller) -> Sequence[Resource]:
        """Return the caller's resources, sorted."""
        ...

    def templates(self, caller: Caller) -> Sequence[Resource]:
        """Return the families of resources that are not listed one by one."""
        ...

    async def read(self, caller: Caller, uri: str) -> Content | None:
        """Return what a resource holds; None if the caller has none of that URI."""
        ...


class NoResources:
    """For a door without resources."""

    def listed(self, caller: Caller) -> Sequence[Resource]:
        del caller
        return ()

    def templates(self, caller: Caller) -> Sequence[Resource]:
        del caller
        return ()

    async def read(self, caller: Caller, uri: str) -> Content | None:
        del caller, uri
        return None


class ResourceMethods:
    """Answers MCP's methods about resources."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def table(self) -> Mapping[str, Callable[[Asked], Awaitable[Result]]]:
        """Return the methods by their names."""
        return {
            "resources/list": self._list,
            "resources/templates/list": self._templates,
            "resources/read": self._read,
            "resources/subscribe": self._subscribe,
            "resources/unsubscribe": self._subscribe,
        }

    async def _list(self, asked: Asked) -> Result:
        return {"resources": [_described(one, "uri") for one in self._resources.listed(asked.caller)]}

    async def _templates(self, asked: Asked) -> Result:
        templates = self._resources.templates(asked.caller)
        return {"resourceTemplates": [_described(one, "uriTemplate") for one in templates]}

    async def _read(self, asked: Asked) -> Result:
        uri = _uri_of(asked)
        content = await self._resources.read(asked.caller, uri)
        if content is None:
            said = f"no resource {uri[:_SHOWN_CHARACTERS]}"
            raise ProtocolError(RESOURCE_NOT_FOUND, said, {"uri": uri[:_SHOWN_CHARACTERS]})
        held = content.held
        what = {"text": held} if isinstance(held, str) else {"blob": b64encode(held).decode()}
        return {"contents": [{"uri": content.uri, "mimeType": content.mime_type, **what}]}

    async def _subscribe(self, asked: Asked) -> Result:
        """Take a subscription, and its end: nothing is ever told, since no resource changes."""
        _uri_of(asked)
        return {}


def _uri_of(asked: Asked) -> str:
    uri = asked.params.get("uri")
    if not isinstance(uri, str):
        raise ProtocolError(INVALID_PARAMS, "params.uri: the URI of a resource")
    return uri


def _described(resource: Resource, place: str) -> dict[str, str]:
    return {
        place: resource.uri,
        "name": resource.name,
        "description": resource.description,
        "mimeType": resource.mime_type,
    }
