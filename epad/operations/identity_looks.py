"""Show the identities that subsystems have, and the trust bundle; have new authorities made at a person's order."""

from __future__ import annotations

from epad.answers.identity import IdentityBundle, IdentityList
from epad.configuration.identity_schema import IdentityConfig
from epad.identity.child import IdentityChild, IdentityError
from epad.identity.record import IdentityRecord
from epad.operations.protocol import ConflictError
from epad.storage.database import DatabaseError
from runners.identity.messages import Bundle, Rotate


class IdentityLooks:
    """Asks the identity child; None in a daemon without one. Each method raises ConflictError."""

    def __init__(
        self,
        config: IdentityConfig,
        endpoint: str,
        child: IdentityChild | None,
        record: IdentityRecord | None,
    ) -> None:
        self._config = config
        self._endpoint = endpoint
        self._child = child
        self._record = record

    async def show(self) -> IdentityList:
        """Return the newest SVIDs."""
        try:
            svids = await self._record.listed() if self._record is not None else []
        except DatabaseError as error:
            raise ConflictError(f"the events cannot be read: {error}", "epactl doctor") from error
        return {
            "trust_domain": self._config.trust_domain,
            "socket": self._endpoint,
            "state": "off: [identity] enabled is false" if self._child is None else self._child.state,
            "svids": svids,
        }

    async def bundle(self) -> IdentityBundle:
        """Return the trust bundle."""
        try:
            answer = await self._there().ask(Bundle)
        except IdentityError as error:
            raise ConflictError(f"there is no bundle: {error}", error.fix or "epactl doctor") from error
        return {"trust_domain": self._config.trust_domain, "document": answer.texts["document"]}

    async def rotate(self) -> str:
        """Have a new authority sign from now on; return a sentence."""
        try:
            await self._there().ask(Rotate)
        except IdentityError as error:
            raise ConflictError(f"the authorities stay: {error}", error.fix or "epactl doctor") from error
        return "a new authority signs from now on; the former one is trusted until all that it signed has expired"

    def _there(self) -> IdentityChild:
        if self._child is None:
            raise ConflictError("there are no identities", "`[identity] enabled = true` gives them")
        return self._child
