"""Be a client of a Workload API: of a SPIRE agent's, where there are several machines, or of another epad's.

The agent says who the daemon is by its own rules, from this child's uid and pid; so it runs as the daemon does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import jwt
from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.exceptions import GRPCError, StreamTerminatedError

from runners.identity.authority import bundle_document
from runners.identity.messages import JWT, Answer, Bundle, Issue, Rotate, Validate
from runners.identity.pem import certificate_pem, key_pem, split_der
from runners.identity.workload_api import SECURITY_HEADER
from runners.identity.workload_messages import MESSAGES, SERVICE

_METADATA: Final = {SECURITY_HEADER: "true"}
_SECONDS: Final = 5.0

Asked = Issue | Validate | Bundle | Rotate


class AgentError(OSError):
    """The agent does not answer, or refuses; the text says which."""


class Agent:
    """The Workload API at a socket's path."""

    def __init__(self, path: str, trust_domain: str) -> None:
        self._path = path
        self._trust_id = f"spiffe://{trust_domain}"
        self._channel = Channel(path=path)

    async def answer(self, asked: Asked) -> Answer:
        """Answer the daemon, by what the agent says. Raises AgentError."""
        match asked:
            case Issue(number, kind, audience):
                return await (self._jwt(number, audience) if kind == JWT else self._x509(number))
            case Validate(number, token, audience):
                request = {"audience": audience, "svid": token}
                found = await self._call("ValidateJWTSVID", "ValidateJWTSVID", request)
                return Answer(number, {"spiffe_id": found.spiffe_id}, _expiry(token))
            case Bundle(number):
                return Answer(number, {"document": await self._bundle()})
            case Rotate():
                raise AgentError("the authorities are the SPIRE server's: rotate them there")

    async def _jwt(self, number: int, audience: str) -> Answer:
        found = await self._call("FetchJWTSVID", "JWTSVID", {"audience": [audience]})
        token = found.svids[0].svid
        return Answer(number, {"token": token, "spiffe_id": found.svids[0].spiffe_id}, _expiry(token))

    async def _x509(self, number: int) -> Answer:
        found = await self._call("FetchX509SVID", "X509SVID", {}, streams=True)
        one = found.svids[0]
        chain, trusted = split_der(one.x509_svid), split_der(one.bundle)
        texts = {
            "spiffe_id": one.spiffe_id,
            "certificate": "".join(map(certificate_pem, chain)),
            "key": key_pem(one.x509_svid_key),
            "bundle": "".join(map(certificate_pem, trusted)),
        }
        return Answer(number, texts, chain[0].not_valid_after_utc.timestamp())

    async def _bundle(self) -> str:
        """Return the trust domain's bundle as a SPIFFE bundle document."""
        x509 = await self._call("FetchX509Bundles", "X509Bundles", {}, streams=True)
        trusted = split_der(x509.bundles.get(self._trust_id, b""))
        found = await self._call("FetchJWTBundles", "JWTBundles", {}, streams=True)
        keys = json.loads(found.bundles.get(self._trust_id, b"{}")).get("keys", ())
        return bundle_document(trusted, [{**key, "use": "jwt-svid"} for key in keys])

    async def _call(self, method: str, kind: str, request: dict[str, Any], *, streams: bool = False) -> Any:
        """Make a call, and return its first answer. Raises AgentError."""
        form: Callable[..., Any] = UnaryStreamMethod if streams else UnaryUnaryMethod
        known = MESSAGES[f"{kind}Request"], MESSAGES[f"{kind}Response"]
        call = form(self._channel, f"/{SERVICE}/{method}", *known)
        try:
            async with call.open(metadata=_METADATA, timeout=_SECONDS) as stream:
                await stream.send_message(known[0](**request), end=True)
                answer = await stream.recv_message()
                if streams:
                    await stream.cancel()
        except GRPCError as error:
            raise AgentError(f"the agent refuses {method}: {error.message}") from error
        except (OSError, StreamTerminatedError) as error:
            raise AgentError(f"no agent answers at {self._path}: {error}") from error
        if answer is None:
            raise AgentError(f"the agent at {self._path} answers {method} with nothing")
        return answer

    def close(self) -> None:
        self._channel.close()


def _expiry(token: str) -> float:
    """Return the end of a token's life; the agent has verified it."""
    return float(jwt.decode(token, options={"verify_signature": False})["exp"])
