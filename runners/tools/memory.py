"""Declare the tools of the category `memory`: names with texts, observations and relations. The daemon answers them."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct, field

from runners.tools.signature import END, Args, Result, meta

Name = Annotated[str, Meta(max_length=120)]
Text = Annotated[str, Meta(max_length=8192)]
Kind = Annotated[str, Meta(max_length=40, pattern="^[a-z][a-z0-9_-]*" + END)]
_SECONDS: Final = 10


class StoreArgs(Args, frozen=True):
    """Holds a text and its name."""

    name: Name
    content: Text
    kind: Kind = field(default="note", name="type")


class StoreResult(Result, frozen=True):
    """Holds the row's id, and its version among the entity's texts."""

    id: int
    version: int


class IdResult(Result, frozen=True):
    """Holds a row's id."""

    id: int


class SearchArgs(Args, frozen=True):
    """Holds words to search for."""

    query: Annotated[str, Meta(max_length=400)]
    limit: Annotated[int, Meta(ge=1, le=25)] = 10
    kind: Kind | None = field(default=None, name="type")


class Found(Struct, frozen=True):
    """One text that was found; a higher score fits better."""

    name: str
    type: str
    score: float
    text: str
    source: str


class SearchResult(Result, frozen=True):
    """Holds the texts found, the best first."""

    results: list[Found]


class RelateArgs(Args, frozen=True):
    """Names two entities and their relation."""

    source: Name = field(name="from")
    relation: Annotated[str, Meta(min_length=1, max_length=80)]
    target: Name = field(name="to")


class ObserveArgs(Args, frozen=True):
    """Holds a text beside an entity's content."""

    entity: Name
    content: Text


class GetArgs(Args, frozen=True):
    """Names an entity, and says how far its relations are followed."""

    name: Name
    depth: Annotated[int, Meta(ge=0, le=3)] = 1


class Entity(Struct, frozen=True):
    """An entity as it is listed."""

    name: str
    type: str
    version: int
    source: str


class Observation(Struct, frozen=True):
    """A text of an entity, and its time in seconds since 1970."""

    text: str
    at: float


class Relation(Struct, frozen=True):
    """A relation between two entities."""

    source: str = field(name="from")
    relation: str
    target: str = field(name="to")


class GetResult(Result, frozen=True):
    """Holds an entity with its texts, the newest first."""

    entity: Entity
    observations: list[Observation]
    relations: list[Relation]


class ListArgs(Args, frozen=True):
    """Asks for a page of entities."""

    kind: Kind | None = field(default=None, name="type")
    cursor: Annotated[str, Meta(max_length=20)] = ""
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class ListResult(Result, frozen=True):
    """Holds a page; `next` is the cursor of the one after it, empty on the last."""

    entities: list[Entity]
    next: str


class DeleteArgs(Args, frozen=True):
    """Names an entity, and the reason of its tombstone."""

    name: Name
    reason: Annotated[str, Meta(min_length=1, max_length=500)]


class DeleteResult(Result, frozen=True):
    """Holds the number of rows that are hidden."""

    retracted: int


MEMORY_STORE: Final = meta(
    "memory_store",
    StoreArgs,
    StoreResult,
    risk="W0",
    timeout=_SECONDS,
    description="Store a text under a name in this session's memory; its next version replaces it.",
    examples=({"name": "build", "content": "make test runs the tests in two minutes"},),
)
MEMORY_SEARCH: Final = meta(
    "memory_search",
    SearchArgs,
    SearchResult,
    risk="R1",
    timeout=_SECONDS,
    description="Search memory for words; the best texts first.",
    examples=({"query": "tests minutes", "limit": 5},),
)
MEMORY_RELATE: Final = meta(
    "memory_relate",
    RelateArgs,
    IdResult,
    risk="W0",
    timeout=_SECONDS,
    description="Relate two stored names, as build -> uses -> compiler.",
    examples=({"from": "build", "relation": "uses", "to": "compiler"},),
)
MEMORY_OBSERVE: Final = meta(
    "memory_observe",
    ObserveArgs,
    IdResult,
    risk="W0",
    timeout=_SECONDS,
    description="Add an observation to a stored name, beside its text.",
    examples=({"entity": "build", "content": "it failed on Monday with a full disk"},),
)
MEMORY_GET: Final = meta(
    "memory_get",
    GetArgs,
    GetResult,
    risk="R1",
    timeout=_SECONDS,
    description="Get a name's texts, newest first, and its relations up to a depth.",
    examples=({"name": "build"},),
)
MEMORY_LIST: Final = meta(
    "memory_list",
    ListArgs,
    ListResult,
    risk="R1",
    timeout=_SECONDS,
    description="List the names in memory, oldest first.",
    examples=({"limit": 10},),
)
MEMORY_DELETE: Final = meta(
    "memory_delete",
    DeleteArgs,
    DeleteResult,
    risk="W1",
    timeout=_SECONDS,
    description="Hide a name's texts and relations; nothing is erased.",
    examples=({"name": "build", "reason": "the project has moved"},),
)
TOOLS: Final = (
    MEMORY_STORE,
    MEMORY_SEARCH,
    MEMORY_RELATE,
    MEMORY_OBSERVE,
    MEMORY_GET,
    MEMORY_LIST,
    MEMORY_DELETE,
)

memory_store = MEMORY_STORE.answered_by_daemon()
memory_search = MEMORY_SEARCH.answered_by_daemon()
memory_relate = MEMORY_RELATE.answered_by_daemon()
memory_observe = MEMORY_OBSERVE.answered_by_daemon()
memory_get = MEMORY_GET.answered_by_daemon()
memory_list = MEMORY_LIST.answered_by_daemon()
memory_delete = MEMORY_DELETE.answered_by_daemon()
