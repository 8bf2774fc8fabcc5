"""Tools of the category `text`: pure functions of their arguments, but for hash_data, which may read a file."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from runners.tools import beneath, differences, output, regexes, text_transforms
from runners.tools.signature import Args, PathArg, Result, ToolError, meta


class DiffArgs(Args, frozen=True):
    """Holds two texts."""

    a: str
    b: str
    context: Annotated[int, Meta(ge=0, le=100)] = 3


class DiffResult(Result, frozen=True):
    """Holds the differences; `ratio` is 1 for equal texts and 0 for texts without a line in common."""

    diff: str
    ratio: float


TEXT_DIFF: Final = meta(
    "text_diff",
    DiffArgs,
    DiffResult,
    risk="P",
    timeout=10,
    description="Compare two texts line by line: unified diff and similarity ratio.",
    examples=({"a": "one\ntwo\n", "b": "one\nthree\n"},),
)


@TEXT_DIFF.tool
async def text_diff(args: DiffArgs) -> DiffResult:
    """Compare line by line."""
    diff, ratio = differences.unified(args.a, args.b, context=args.context)
    return DiffResult(diff=output.cut_and_keep(diff)[0], ratio=ratio)


class Match(msgspec.Struct, frozen=True):
    """Describes one match."""

    start: int
    end: int
    groups: list[str | None]


class MatchArgs(Args, frozen=True):
    """Holds a pattern and a text. The flags are of i, m, s, x."""

    pattern: str
    text: str
    flags: str = ""
    limit: Annotated[int, Meta(ge=1, le=5000)] = 100


class MatchResult(Result, frozen=True):
    """Holds matches, the whole match first among the groups of each."""

    matches: list[Match]


REGEX_MATCH: Final = meta(
    "regex_match",
    MatchArgs,
    MatchResult,
    risk="P",
    timeout=5,
    description="Find matches of a regular expression in a text: positions, groups. Flags: i, m, s, x.",
    examples=({"pattern": r"(\w+)@(\w+)", "text": "ann@example and bob@example"},),
)


@REGEX_MATCH.tool
async def regex_match(args: MatchArgs) -> MatchResult:
    """Find matches; group 0 is the whole match."""
    found = regexes.compiled(args.pattern, args.flags).finditer(args.text)
    matches = (Match(each.start(), each.end(), [each.group(0), *each.groups()]) for each in found)
    return MatchResult(matches=output.cut_items(matches, args.limit)[0])


class ReplaceArgs(Args, frozen=True):
    """Holds a pattern, a replacement and a text."""

    pattern: str
    replacement: str
    text: str
    flags: str = ""


class ReplaceResult(Result, frozen=True):
    """Holds the new text, and the number of matches that were replaced."""

    text: str
    count: int


REGEX_REPLACE: Final = meta(
    "regex_replace",
    ReplaceArgs,
    ReplaceResult,
    risk="P",
    timeout=5,
    description=r"Replace all matches of a regular expression in a text; \1 stands for a group.",
    examples=({"pattern": r"(\d+)-(\d+)", "replacement": r"\2-\1", "text": "10-20"},),
)


@REGEX_REPLACE.tool
async def regex_replace(args: ReplaceArgs) -> ReplaceResult:
    """Replace all matches."""
    text, count = regexes.replaced(regexes.compiled(args.pattern, args.flags), args.replacement, args.text)
    return ReplaceResult(text=output.whole(text, "replace in a smaller text"), count=count)


class Base64Args(Args, frozen=True):
    """Holds a text, or bytes as hex. Decoding takes both alphabets."""

    text: str | None = None
    bytes: str | None = None
    direction: Literal["encode", "decode"] = "encode"


class Base64Result(Result, frozen=True):
    """Holds the text, or where it is none, the bytes as hex."""

    text: str | UnsetType = UNSET
    bytes: str | UnsetType = UNSET


BASE64_CONVERT: Final = meta(
    "base64_convert",
    Base64Args,
    Base64Result,
    risk="P",
    timeout=5,
    description="Encode text or hex bytes to base64, or decode; bytes that are no text as hex.",
    examples=({"text": "hello"}, {"text": "aGVsbG8=", "direction": "decode"}),
)


@BASE64_CONVERT.tool
async def base64_convert(args: Base64Args) -> Base64Result:
    """Encode, or decode strictly."""
    given = _exactly_one("text", args.text, "bytes", args.bytes)
    if args.direction == "encode":
        try:
            data = bytes.fromhex(given) if args.text is None else given.encode()
        except ValueError as error:
            raise ToolError(
                f"the bytes cannot be read: {error}", "bytes are given as hex, as in 00ff"
            ) from None
        return Base64Result(text=output.whole(base64.b64encode(data).decode(), "encode less at once"))
    text = re.sub(r"\s+", "", given).translate(str.maketrans("-_", "+/"))
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ToolError(f"not base64: {error}", "letters, digits, + / or - _, and = at the end") from None
    try:
        return Base64Result(text=output.whole(data.decode(), "decode less at once"))
    except UnicodeDecodeError:
        return Base64Result(bytes=output.whole(data.hex(), "decode less at once"))


Algorithm = Literal["sha256", "sha512", "sha1", "md5", "sha3_256", "blake2b"]
for _algorithm in ("sha256", "sha512", "sha1", "md5", "sha3_256", "blake2b"):
    hashlib.new(_algorithm, usedforsecurity=False)  # OpenSSL reads its settings once, which a call may not


class HashArgs(Args, frozen=True):
    """Holds data, or names a file."""

    data: str | None = None
    path: PathArg | None = None
    algorithm: Algorithm = "sha256"


class HashResult(Result, frozen=True):
    """Holds the digest."""

    hex: str


HASH_DATA: Final = meta(
    "hash_data",
    HashArgs,
    HashResult,
    risk="R1",
    timeout=60,
    description="Hash a text or a file. md5 and sha1 are for old checksums only.",
    examples=({"data": "hello"}, {"path": "notes.txt", "algorithm": "md5"}),
)


@HASH_DATA.tool
async def hash_data(args: HashArgs) -> HashResult:
    """Hash block by block."""
    given = _exactly_one("data", args.data, "path", args.path)
    digest = hashlib.new(args.algorithm, usedforsecurity=False)
    if args.path is None:
        digest.update(_utf8(given))
    else:
        with beneath.opened(args.path) as descriptor:
            for block in beneath.blocks(descriptor):
                digest.update(block)
    return HashResult(hex=digest.hexdigest())


class EstimateArgs(Args, frozen=True):
    """Holds a text."""

    text: str
    model: str | None = None


class EstimateResult(Result, frozen=True):
    """Holds an estimate; `high` is a bound for tokenizers that work on bytes."""

    tokens: int
    how: str
    low: int
    high: int


TOKEN_ESTIMATE: Final = meta(
    "token_estimate",
    EstimateArgs,
    EstimateResult,
    risk="P",
    timeout=5,
    description="Estimate the tokens of a text, with a low guess and an upper bound.",
    examples=({"text": "The quick brown fox jumps over the lazy dog."},),
)


@TOKEN_ESTIMATE.tool
async def token_estimate(args: EstimateArgs) -> EstimateResult:
    """Estimate by the pieces of a text, since no model's tokenizer is in reach of a pure tool."""
    size = len(_utf8(args.text))
    tokens = tokens_of(args.text)
    return EstimateResult(tokens=tokens, how="pieces of text", low=-(-tokens // 2), high=max(size, tokens))


_PIECES: Final = re.compile(r"[A-Za-z]+|[0-9]+|\s+|[^\sA-Za-z0-9]")


def tokens_of(text: str) -> int:
    """Return about the number of tokens: long words and numbers have several, spaces belong to the next word."""
    return sum(_tokens_of_piece(piece) for piece in _PIECES.findall(text))


def _tokens_of_piece(piece: str) -> int:
    if piece.isspace():
        return len(piece) // 16 + piece.count("\n") if len(piece) > 1 or piece == "\n" else 0
    if piece.isascii():
        return -(-len(piece) // (3 if piece.isdigit() else 6))
    return max(1, len(piece.encode("utf-8", errors="replace")) // 3)


class SplitArgs(Args, frozen=True):
    """Holds a text, and the most tokens, lines or sentences of a part."""

    text: str
    by: Literal["tokens", "lines", "sentences"] = "tokens"
    size: Annotated[int, Meta(ge=1, le=1_000_000)] = 500


class SplitResult(Result, frozen=True):
    """Holds the parts; joined they are the text."""

    parts: list[str]


TEXT_SPLIT: Final = meta(
    "text_split",
    SplitArgs,
    SplitResult,
    risk="P",
    timeout=10,
    description="Split a text into chunks of so many tokens (estimated), lines or sentences.",
    examples=({"text": "One. Two. Three.", "by": "sentences", "size": 2},),
)


@TEXT_SPLIT.tool
async def text_split(args: SplitArgs) -> SplitResult:
    """Split at borders of the unit; nothing is lost between parts."""
    parts = list(parts_of(args.text, args.by, args.size))
    return SplitResult(parts=output.whole(parts, "split a smaller text"))


def parts_of(text: str, by: str, size: int) -> Iterator[str]:
    """Yield the parts of a text, each of at most so many units, or of one that is larger."""
    match by:
        case "lines":
            yield from _packed(text.splitlines(keepends=True), _one, size)
        case "sentences":
            yield from _packed(re.findall(r"[^.!?\n]*[.!?\n]+\s*|[^.!?\n]+$", text), _one, size)
        case _:
            yield from _packed(_PIECES.findall(text), _tokens_of_piece, size)


def _one(piece: str) -> int:
    return min(1, len(piece))


def _packed(units: list[str], weigh: Callable[[str], int], size: int) -> Iterator[str]:
    part, weight = list[str](), 0
    for unit in units:
        added = weigh(unit)
        if part and weight + added > size:
            yield "".join(part)
            part, weight = [], 0
        part.append(unit)
        weight += added
    if part:
        yield "".join(part)


def _exactly_one(first: str, a: str | None, second: str, b: str | None) -> str:
    if (a is None) == (b is None):
        raise ToolError(
            f"give either `{first}` or `{second}`", f"`{first}` is content, `{second}` the other form of it"
        )
    return a if a is not None else str(b)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ToolError(f"the text is not valid Unicode at character {error.start}", "remove it") from None


string_transform = text_transforms.string_transform
TOOLS: Final[tuple[Any, ...]] = (
    BASE64_CONVERT,
    HASH_DATA,
    REGEX_MATCH,
    REGEX_REPLACE,
    TEXT_DIFF,
    TEXT_SPLIT,
    TOKEN_ESTIMATE,
    *text_transforms.TOOLS,
)
