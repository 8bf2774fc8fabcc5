"""Says whose a request is: by the key, by the door it came in through, and by the uid at its other end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from epad.gateway import refusal as refuse
from epad.gateway.http.request import Request
from epad.gateway.identity import Identities, presents_key
from epad.gateway.own_listeners import Door
from epad.gateway.refusal import Refusal, RefusalError
from epad.listeners.browser_origin import NOBODY, refuse_name, refuse_site
from statemachine.clock import Clock
from statemachine.finding import Finding, Severity

IDENTITY_PROBE = "identity"
# One finding stands for all of the same kind in this time: whoever holds a stolen key may ask often.
_TOLD_SECONDS = 10.0


class Doorkeeper:
    """Knows the keys, the doors, and who may come through them."""

    def __init__(
        self,
        identities: Identities,
        doors: Sequence[Door],
        anonymous: str,
        clock: Clock,
        alarm: Callable[[Finding], None],
        hosts: frozenset[str] = NOBODY,
    ) -> None:
        """`hosts` are the public names that the gateway is asked by."""
        self._identities = identities
        self._anonymous = anonymous
        self._clock = clock
        self._alarm = alarm
        self._hosts = hosts
        self._told_at: dict[tuple[str, str], float] = {}
        self.configure(doors)

    def configure(self, doors: Sequence[Door]) -> None:
        """Know these doors from now on."""
        self._uids = {door.subsystem: door.uid for door in doors if door.uid is not None}

    def identify(self, request: Request) -> str:
        """Name the subsystem that asks. Raises RefusalError."""
        keyed = self._identities.resolve(request.fields)
        own = request.connection.owner
        if own and keyed is not None and keyed != own:
            self._tell(keyed, "door", f"the key of {keyed} was used at the door of {own}")
            raise RefusalError(refuse.UNKNOWN_IDENTITY)
        if keyed is None:
            self.refuse_strangers(request)
        # At its own door a subsystem needs no key; many clients cannot be kept from sending some word as one.
        name = own or keyed
        if name is None and self._anonymous and not presents_key(request.fields):
            name = self._anonymous
        if name is None:
            raise RefusalError(refuse.UNKNOWN_IDENTITY)
        wrong = self._wrong_hands(name, request)
        if wrong is not None:
            raise RefusalError(wrong)
        return name

    def refuse_strangers(self, request: Request) -> None:
        """Raise RefusalError for a page of another site: without a key, all that it needs is to reach us.

        No page reaches a Unix socket, and none has a key unless someone gave it one.
        """
        if request.connection.local_address.startswith("unix:"):
            return
        fields = request.fields
        host = fields.get("Host")
        strange = refuse_name(host, self._hosts)
        if strange:
            raise RefusalError(refuse.strange_host(strange))
        strange = refuse_site(fields.get("Origin"), fields.get("Sec-Fetch-Site"), host, self._hosts)
        if strange:
            raise RefusalError(refuse.strange_site(strange))

    def _wrong_hands(self, name: str, request: Request) -> Refusal | None:
        """Hold the uid at the other end against the one that is expected."""
        expected = self._uids.get(name)
        uid = None if expected is None else request.connection.peer_uid
        if uid is None or uid == expected:
            return None
        self._tell(name, "uid", f"{name} was asked for by uid {uid}, whose is uid {expected}", uid=uid)
        return refuse.wrong_user(name)

    def _tell(self, name: str, what: str, reason: str, **evidence: int) -> None:
        now = self._clock.monotonic()
        if now - self._told_at.get((name, what), float("-inf")) < _TOLD_SECONDS:
            return
        self._told_at[name, what] = now
        self._alarm(
            Finding(IDENTITY_PROBE, name, Severity.ANOMALY, now, reason, evidence=evidence, hard=True)
        )
