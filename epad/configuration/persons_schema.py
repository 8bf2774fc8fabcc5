"""`[persons.NAME]`: who may look, give orders, or own this epad, and how each is known; and their faults."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from epad.configuration.complaint import Complaint
from epad.configuration.toml_lines import KeyPath
from epad.gate.permissions import UNMAPPED_UID
from epad.gate.persons import Person, Role

RESERVED = frozenset({"epad", "configuration", "itself", "host", "root"})
"""Names that the records have for others than persons; `root` is a user's, who may be any person."""


class PersonConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets a person's role, and one way or more to be known. docs/audit.md explains it."""

    role: Literal["observer", "operator", "owner"]
    uid: Annotated[int, Meta(ge=0, le=(1 << 32) - 2)] | None = None
    oidc: str = ""
    spiffe: str = ""


class ProxyConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """An authenticating reverse proxy in front of the status page, on a Unix socket of its own."""

    user_header: str
    issuer: str = ""
    spiffe_header: str = ""


def persons_of(persons: Mapping[str, PersonConfig]) -> tuple[Person, ...]:
    """Return the persons as the gate knows them."""
    return tuple(Person(name, Role(one.role), one.uid, one.oidc, one.spiffe) for name, one in persons.items())


def check_persons(
    persons: Mapping[str, PersonConfig], proxy: ProxyConfig | None, subsystems: Collection[str]
) -> Iterator[Complaint]:
    """Yield every fault in the tables `persons`: among them that nobody could change anything any more."""
    known: dict[tuple[str, str], str] = {}
    for name, person in persons.items():
        path: KeyPath = ("persons", name)
        if name in RESERVED or name in subsystems:
            yield Complaint(
                path, f"has a name that records have for another; call the person otherwise than {name}"
            )
        if person.uid is None and not person.oidc and not person.spiffe:
            yield Complaint(path, "needs uid, oidc or spiffe: how the person is known")
        if person.uid == UNMAPPED_UID:
            yield Complaint(
                (*path, "uid"), f"is {UNMAPPED_UID}, which is anybody whom this machine does not know"
            )
        yield from _check_claims(path, person, proxy)
        for key, text in (("uid", person.uid), ("oidc", person.oidc), ("spiffe", person.spiffe)):
            if text in (None, ""):
                continue
            other = known.setdefault((key, str(text)), name)
            if other != name:
                yield Complaint(
                    (*path, key), f"is {text}, whom persons.{other} names; give each person one table"
                )
    if persons and not any(one.role == "owner" and one.uid is not None for one in persons.values()):
        text = (
            'has no owner who is known by a uid, so nobody could undo this; give one role = "owner" and a uid'
        )
        yield Complaint(("persons",), text)


def _check_claims(path: KeyPath, person: PersonConfig, proxy: ProxyConfig | None) -> Iterator[Complaint]:
    if person.oidc:
        subject, _, issuer = person.oidc.rpartition("@")
        if not subject or not issuer.startswith(("https://", "http://")):
            text = f'is "{person.oidc}"; give the subject and the issuer: "SUB@https://issuer.example"'
            yield Complaint((*path, "oidc"), text)
        elif proxy is None or proxy.issuer != issuer:
            has = f'"{proxy.issuer}"' if proxy else "not set"
            text = f"is of the issuer {issuer}; [web.proxy] issuer is {has}, so nobody could vouch for it"
            yield Complaint((*path, "oidc"), text)
    if person.spiffe and not person.spiffe.startswith("spiffe://"):
        yield Complaint((*path, "spiffe"), f'is "{person.spiffe}"; give an id, as "spiffe://domain/path"')
    elif person.spiffe and (proxy is None or not proxy.spiffe_header):
        text = "needs [web.proxy] spiffe_header: the header in which the proxy names who it has verified"
        yield Complaint((*path, "spiffe"), text)
