"""Define the bodies of orders, each a type that a row of the registry names; the OpenAPI document is made from them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct, structs

from epad.confinement.approvals import APPROVED_SECONDS
from epad.operations.registry import MAX_REASON_CHARACTERS
from statemachine.phase import Phase

SECRET_FIELDS: Final = frozenset({"value", "passphrase"})
"""The fields of bodies that are put nowhere."""
MAX_PIECE_CHARACTERS = 1 << 20
"""So many characters of base64 an order brings of a document at most."""


class OrderBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of every order."""

    reason: Annotated[str, Meta(min_length=1, max_length=MAX_REASON_CHARACTERS)]

    def recorded(self) -> dict[str, Any]:
        """Return what of it is put on record: every field that no text has to keep to itself."""
        return structs.asdict(self)


class ReloadOrder(OrderBody, frozen=True, forbid_unknown_fields=True):
    """The body of an order to reload; `may_widen` tells that a person gave the reason, for widened policies too."""

    may_widen: bool = False


class ApprovalOrder(OrderBody, frozen=True, forbid_unknown_fields=True):
    """The body of an approval: for how many seconds it holds; 0 is for one connection, null is for ever."""

    seconds: Annotated[float, Meta(ge=0)] | None = APPROVED_SECONDS


class RevocationOrder(OrderBody, frozen=True, forbid_unknown_fields=True):
    """The body of an order to take an approval back; a host that several may reach needs its subsystem."""

    subsystem: str = ""


class LearnOrder(OrderBody, frozen=True, forbid_unknown_fields=True):
    """The body of an order to record a subsystem for so long; null ends the recording."""

    seconds: Annotated[float, Meta(gt=0, le=86_400)] | None = None


class MemoryOrder(OrderBody, frozen=True, forbid_unknown_fields=True):
    """The body of an order about stored texts: a name, a session, or both."""

    name: Annotated[str, Meta(max_length=120)] = ""
    session: Annotated[str, Meta(max_length=64)] = ""


class HiddenBody(OrderBody, frozen=True, forbid_unknown_fields=True):
    """The body of an order with something in it that no text may show, a traceback's neither."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def recorded(self) -> dict[str, Any]:
        """Return it without what is secret in it."""
        return {name: value for name, value in structs.asdict(self).items() if name not in SECRET_FIELDS}


class BoundTo(Struct, frozen=True, forbid_unknown_fields=True):
    """Names the hosts that a secret may go to, and who may use it."""

    hosts: tuple[str, ...] = ()
    subsystems: tuple[str, ...] = ()


class SecretOrder(HiddenBody, frozen=True, forbid_unknown_fields=True):
    """The body of an order to keep a secret: its value, in base64, and what it is bound to.

    `sealed_by` names a way of sealing; empty: the first there is. `replace`: make one that is there anew.
    """

    value: bytes
    binding: BoundTo
    sealed_by: str = ""
    replace: bool = False


class RotationOrder(HiddenBody, frozen=True, forbid_unknown_fields=True):
    """The body of an order to give a secret a new value, in base64."""

    value: bytes


class BindingOrder(OrderBody, frozen=True, forbid_unknown_fields=True):
    """The body of an order to bind a secret; an empty list leaves what it is bound to."""

    binding: BoundTo


class ExportOrder(OrderBody, frozen=True, forbid_unknown_fields=True):
    """The body of an order to export a secret; encrypted to an age recipient, if one is given."""

    recipient: Annotated[str, Meta(max_length=200)] = ""


class UnlockOrder(HiddenBody, frozen=True, forbid_unknown_fields=True):
    """The body of an order to unlock the vault's key; of a security key `passphrase` is its PIN."""

    passphrase: Annotated[str, Meta(max_length=1_024)] = ""
    by: Literal["passphrase", "security-key"] = "passphrase"


class VaultOrder(OrderBody, frozen=True, forbid_unknown_fields=True):
    """The body of an order about a document of the vault."""

    document: Annotated[str, Meta(min_length=1, max_length=100)]


class DocumentOrder(VaultOrder, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of an order to add a document: a piece of its bytes, in base64, and where it belongs.

    With the piece that ends at `size` the document is whole, and is added if it has the digest.
    """

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    size: Annotated[int, Meta(ge=0, le=64 << 20)]
    offset: Annotated[int, Meta(ge=0)]
    data: Annotated[str, Meta(max_length=MAX_PIECE_CHARACTERS)]


class AcceptToolsOrder(OrderBody, frozen=True, forbid_unknown_fields=True):
    """The body of an acceptance: the digest of the list that was looked at; empty for whatever is listed."""

    sha256: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?$")] = ""


class PhaseOrder(OrderBody, frozen=True, forbid_unknown_fields=True):
    """The body of an order to enter a phase."""

    phase: Phase


class BudgetOrder(OrderBody, frozen=True, forbid_unknown_fields=True):
    """The body of an order to change limits; null leaves one to the configuration again."""

    limits: Annotated[dict[str, int | float | None], Meta(min_length=1)]
