"""Read a bundle of STIX 2.1 into one text for each object, with what analysts search for in its title. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

_NAMED: Final = ("name", "value", "path", "key", "subject", "user_id", "opinion")
"""The properties that name an object, of domain objects and of observables; the first that is there counts."""
_NOT_TOLD: Final = frozenset(
    {"id", "type", "spec_version", "created", "modified", "created_by_ref", "object_marking_refs", "name"}
)


class StixError(ValueError):
    """A bundle that is none; the message names the object and the property."""


def is_bundle(value: Any) -> bool:
    """Tell if a JSON value says that it is a bundle."""
    return isinstance(value, dict) and value.get("type") == "bundle"


def objects_of(bundle: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield each object: its id, the words it is about, and its properties. Raises StixError."""
    objects = bundle.get("objects", [])
    if not isinstance(objects, list):
        raise StixError("objects is no list")
    for number, one in enumerate(objects):
        if not isinstance(one, dict) or not all(isinstance(one.get(key), str) for key in ("id", "type")):
            raise StixError(f"objects[{number}] has no id and type")
    names = {one["id"]: _title(one) for one in objects}
    for one in objects:
        yield one["id"], names[one["id"]], "\n".join(_told(one, names))


def external_ids(one: Mapping[str, Any]) -> list[str]:
    """Return the ids that other catalogues have for an object, such as T1059 or CVE-2021-44228."""
    references = one.get("external_references")
    found = [each.get("external_id") for each in references or () if isinstance(each, dict)]
    return [each for each in found if isinstance(each, str)]


def _title(one: Mapping[str, Any]) -> str:
    name = next((one[key] for key in _NAMED if isinstance(one.get(key), str)), "")
    hashes = one.get("hashes")
    digests = [each for each in hashes.values() if isinstance(each, str)] if isinstance(hashes, dict) else []
    over = [word for word in ("revoked", "x_mitre_deprecated") if one.get(word) is True]
    pattern = one.get("pattern")
    shown = [pattern] if isinstance(pattern, str) else []
    return " ".join(filter(None, [one["type"], name, *external_ids(one), *digests, *shown, *over]))


def _told(one: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[str]:
    if one["type"] == "relationship":
        source, target = (str(one.get(key, "")) for key in ("source_ref", "target_ref"))
        yield f"{names.get(source, source)} {one.get('relationship_type', '')} {names.get(target, target)}"
    for key, value in one.items():
        if key not in _NOT_TOLD:
            yield from _lines(key, value, names, 0)


def _lines(key: str, value: Any, names: Mapping[str, str], depth: int) -> Iterator[str]:
    match value:
        case dict() | list() if depth > 16:
            return
        case dict():
            for inner, each in value.items():
                yield from _lines(f"{key}.{inner}", each, names, depth + 1)
        case list():
            for each in value:
                yield from _lines(key, each, names, depth + 1)
        case str() if value in names and key.endswith(("_ref", "_refs")):
            yield f"{key}: {value} ({names[value]})"
        case _:
            yield f"{key}: {value}"
