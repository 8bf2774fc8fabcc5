"""Mutants that no test can find, and why: by file, line and change. An empty change stands for all of that line."""

from __future__ import annotations

from pathlib import Path

_UNREAD = "chunks are read only where the output was not counted, and here it was"
_WHOLE = "each row has a cell for each phase, or a test of the table's holes fails"
_TYPES = "for the type checker alone"
_FLOOR = "the half of it is rounded down once more, to the same whole number"
_NEGATIVE = "any number below 0 says that not even the prompt fits"
_ALWAYS = "the first turn that begins is always more than none, so the time is not looked at"
_SLOWER = "the same is read the slow way"
_RAW = "the field is named so that it is known; nobody reads its value"
_EMPTY = "an empty text is none: nothing is said of either"
_FALSY = "it is asked only whether it is true"
_HASHED = "the digest is the same however the text is cut into pieces"
_ASKED = "self.requests.refuses(1, now)"
_SUM = "Sum(shape) if math.isinf(shape.seconds)"
_EVER = "(largest - wish.prompt_tokens)"
_GATEWAY = "epad/gateway/"
_DIALECTS = _GATEWAY + "dialects/"

# The fields of requests' structs that nobody reads, by file.
_KNOWN = {
    "anthropic.py": "name description input_schema cache_control text source thinking signature id input role "
                    "tool_use_id",
    "openai.py": "text image_url input_audio file cache_control description parameters input_schema strict role name "
                 "tool_calls tool_call_id refusal annotations reasoning_content",
    "openai_responses.py": "name description parameters strict text annotations id role status call_id arguments "
                           "summary",
    "ollama.py": "role content thinking tool_calls tool_name",
}  # fmt: skip
# The same of what is typed in answers.
_KNOWN_IN_ANSWERS = {
    ("openai_choices.py", "NULL"): "index id type role annotations logprobs stop_reason token_ids prompt_token_ids "
                                   "prompt_logprobs matched_stop",
    ("anthropic_answer.py", "_NULL"): "type index id citations",
    ("ollama_answer.py", "_NULL"): "role model created_at remote_model remote_host",
}  # fmt: skip
# Texts in answers that are None where they are absent.
_TEXTS = {
    "openai_choices.py": "name arguments content refusal reasoning_content reasoning text finish_reason",
    "anthropic_answer.py": "text thinking partial_json",
    "ollama_answer.py": "content thinking response",
}

EQUIVALENT: dict[tuple[str, str, str], str] = {
    ("epad/gate/tool_table.py", "for phase, cell in zip(PHASES, cells, strict=True)", ""): _WHOLE,
    **{
        (_DIALECTS + file, f"{name}: Raw = ABSENT", ""): _RAW
        for file, names in _KNOWN.items()
        for name in names.split()
    },
    **{
        (_DIALECTS + file, f"{name}: Raw = {null}", ""): _RAW
        for (file, null), names in _KNOWN_IN_ANSWERS.items()
        for name in names.split()
    },
    **{
        (_DIALECTS + file, f"{name}: str | None = None", ""): _EMPTY
        for file, names in _TEXTS.items()
        for name in names.split()
    },
    (_DIALECTS + "body.py", 'ABSENT = Raw(b"")', ""): _RAW,
    (_DIALECTS + "body.py", 'T = TypeVar("T")', ""): _TYPES,
    (_DIALECTS + "reply.py", "self._space = False", "self._space = False -> self._space = None"): _FALSY,
    (_DIALECTS + "reply.py", "self._said = False", "self._said = False -> self._said = None"): _FALSY,
    (_DIALECTS + "reply.py", "self._called = False", "self._called = False -> self._called = None"): _FALSY,
    (_DIALECTS + "reply.py", "_HASHED_CHARACTERS = 4096", "4096 -> 4097"): _HASHED,
    (
        _DIALECTS + "reply.py",
        "if self._unhashed_characters >= _HASHED_CHARACTERS:",
        ">= _HASHED_CHARACTERS -> > _HASHED_CHARACTERS",
    ): _HASHED,
    (_DIALECTS + "reply.py", "self._unhashed_characters = 0", "0 -> 1"): _HASHED,
    (_DIALECTS + "reply.py", "self._unhashed_characters += len(text)", ""): _HASHED,
    (_DIALECTS + "reply.py", r'self._hash_call(b"\0" + name.encode() + b"\0")', r'b"\0" -> b"XX\0XX"'): (
        "a name is parted from its arguments by any bytes that JSON has not"
    ),
    (_DIALECTS + "anthropic.py", 'if not (edit.type or "").startswith("clear_"):', '"" -> "XXXX"'): (
        "it begins with another word all the same"
    ),
    (_DIALECTS + "openai_answer.py", "typed = read_answer(body, _Vectors)", ""): _SLOWER,
    (_DIALECTS + "ollama_answer.py", "typed = read_answer(body, _Embedded)", ""): _SLOWER,
    (
        _DIALECTS + "anthropic.py",
        'type: str = ""',
        'type: str = "" -> type: str = None',
    ): "neither is a block of text",
    (
        _DIALECTS + "dialect.py",
        "zero_is_none: bool = False",
        "zero_is_none: bool = False -> zero_is_none: bool = None",
    ): _FALSY,
    (
        _DIALECTS + "openai_text.py",
        "_BEGINNING_BYTES = 64",
        "_BEGINNING_BYTES = 64 -> _BEGINNING_BYTES = None",
    ): ("the beginning of all of it is the same"),
    (
        _DIALECTS + "body.py",
        'insert = self.text.index(b"{") + 1',
        'self.text.index(b"{") -> self.text.rindex(b"{")',
    ): ("an object without fields has one brace that opens"),
    (_DIALECTS + "body.py", "_COMPARED_BYTES = 256 << 10", ""): "pieces of any size come to the same",
    (
        _DIALECTS + "history.py",
        r'_END = b"\0"',
        r'b"\0" -> b"XX\0XX"',
    ): "any bytes that JSON has not part two messages",
    (
        _DIALECTS + "counts.py",
        "if value is not None and (type(value) is not int or not 0 <= value <= MOST_TOKENS):",
        "type(value) -> type(None)",
    ): _SLOWER,
    (_DIALECTS + "openai_choices.py", "tool_calls: list[_Call] | None = None", ""): _EMPTY,
    (_DIALECTS + "openai_choices.py", "function_call: None = None", ""): _RAW,
    (_DIALECTS + "openai_choices.py", "audio: None = None", ""): _RAW,
    (_DIALECTS + "openai_choices.py", "delta: Said | None = None", ""): _EMPTY,
    (_DIALECTS + "anthropic.py", "type: str | None = None", ""): _EMPTY,
    (_DIALECTS + "openai.py", "type: str | None = None", ""): _EMPTY,
    (_DIALECTS + "ollama.py", "images: list[Raw] | None = None", ""): "no images are none",
    (
        _DIALECTS + "anthropic_answer.py",
        'type: str = "message"',
        "",
    ): "anything that is no error is an answer",
    (_DIALECTS + "anthropic_answer.py", "error: Raw = _NULL", ""): _SLOWER,
    (_DIALECTS + "ollama_answer.py", "error: Raw = _NULL", ""): _SLOWER,
    (_DIALECTS + "ollama_answer.py", '_NULL = Raw(b"null")', ""): _SLOWER,
    (
        _DIALECTS + "counts.py",
        '_PLAIN = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})',
        "",
    ): (_SLOWER),
    (_GATEWAY + "charge.py", "return charge_stream(seen.usage, 0, terms.bound)", ""): _UNREAD,
    (
        _GATEWAY + "limits.py",
        '("in_all", IN_ALL_SECONDS, 1),',
        "1 -> 2",
    ): "a sum over all time has no buckets",
    (_GATEWAY + "limits.py", "if bucket <= self._newest:", "<= self._newest -> < self._newest"): (
        "no bucket lies between the newest and itself"
    ),
    (
        _GATEWAY + "charge.py",
        "charge = _for_every_prompt(charge_stream(_of_a_prompt(usage, seen), 0, bound), terms)",
        "",
    ): _UNREAD,
    (
        _GATEWAY + "charge.py",
        "return bool(terms.bound.output_tokens) or (counted or 0) < terms.prompts",
        "0 -> 1",
    ): ("it is asked of two prompts or more"),
    (
        _GATEWAY + "limits.py",
        "for bucket in range(newest - self._size + 1, newest + 1):",
        "1 -> 2",
    ): "of the end: all that is spent is found before it; of the begin it is killed",
    (_GATEWAY + "limits.py", "self._most = 0", "0 -> 1"): "of none or one that was, one is expected",
    (_GATEWAY + "limits.py", "self._seen_at = -math.inf", ""): _ALWAYS,
    (
        _GATEWAY + "limits.py",
        "return self.requests.refuses(1, now) if self.requests.limited else None",
        f"{_ASKED} if self.requests.limited else None -> {_ASKED} if (self.requests.limited) or True else None",
    ): "without a limit nothing is refused; asking first is quicker",
    (
        _GATEWAY + "limits.py",
        "return Sum(shape) if math.isinf(shape.seconds) else Window(shape)",
        f"{_SUM} else Window(shape) -> Sum(shape) if (math.isinf(shape.seconds)) and False else Window(shape)",
    ): "a window without end keeps everything in one bucket, as a sum does",
    (
        _GATEWAY + "budget.py",
        "self._group_of: Mapping[str, str] = {}",
        "",
    ): "configure() sets it before it is read",
    (
        _GATEWAY + "admission.py",
        "ever = (largest - wish.prompt_tokens) // wish.choices",
        f"{_EVER} // wish.choices -> {_EVER} / wish.choices",
    ): _FLOOR,
    (_GATEWAY + "allowance.py", "fits = -1 if fits < 0 else fits", "1 -> 2"): _NEGATIVE,
    (_GATEWAY + "allowance.py", "affordable = max(-1, affordable // wish.choices)", "1 -> 2"): _NEGATIVE,
    (
        _GATEWAY + "admission.py",
        "return max(min(wish.useful, 1), min(wish.useful, ever // 2))",
        "1 -> 2",
    ): "for what can never fit nobody waits: it is asked for once more, and then one token is enough",
    (
        _GATEWAY + "allowance.py",
        "context_tokens: int = 0",
        "context_tokens: int = 0 -> context_tokens: int = None",
    ): ("it is asked only whether there is any"),
    (
        _GATEWAY + "budget.py",
        'group = self._all.get(GROUP_PREFIX + self._group_of.get(subsystem, ""))',
        '"" -> "XXXX"',
    ): "no group has that name either",
    (_GATEWAY + "budget.py", "if not scope.fits(1, 0, now):", "0 -> 1"): _SLOWER,
    (
        _GATEWAY + "budget.py",
        "self._everyone: tuple[Scope, ...] = ()",
        "",
    ): "configure() sets it before it is read",
    (_GATEWAY + "waiting.py", "continue", "continue -> break"): (
        "whoever leaves the queue has those behind it looked through again"
    ),
    (_GATEWAY + "budget.py", 'T = TypeVar("T")', ""): _TYPES,
    (_DIALECTS + "loose.py", "JsonDict = dict[str, Any]", ""): _TYPES,
    (_DIALECTS + "body.py", "read = _read(raw, kind)", "_read(raw, kind) -> _read(raw, None)"): _SLOWER,
    (_DIALECTS + "body.py", 'spaced = text.startswith(b": ", len(first) + 3)', ""): _SLOWER,
    (_DIALECTS + "body.py", """colon, comma = (b'": ', b', "') if spaced else (b'":', b',"')""", ""): _SLOWER,
    (_DIALECTS + "body.py", """return text == b'{"%b}' % fields""", """b'{"%b}' -> b'XX{"%b}XX'"""): _SLOWER,
    (_DIALECTS + "body.py", "_MAX_REWRITTEN_BYTES = 64 << 10", ""): _SLOWER,
    (
        _DIALECTS + "counts.py",
        "if value is not None and (type(value) is not int or not 0 <= value <= MOST_TOKENS):",
        "0 -> 1",
    ): _SLOWER,
    (_DIALECTS + "reply.py", "self._unhashed_characters += sum(map(len, said))", ""): _HASHED,
    (
        _DIALECTS + "reply.py",
        "self._space = False",
        "False -> True",
    ): "it is looked at once something was said",
    (_GATEWAY + "waiting.py", 'T = TypeVar("T")', ""): _TYPES,
    (_GATEWAY + "waiting.py", "Attempt = Callable[[bool, bool], T | Refused]", ""): _TYPES,
    (
        _DIALECTS + "anthropic_answer.py",
        "name: str | None = None",
        "",
    ): "a call without name and arguments is none",
    (_DIALECTS + "anthropic_answer.py", '_NULL = Raw(b"null")', ""): _SLOWER,
    (_DIALECTS + "events.py", 'rest, self._pending, self._searched = self._pending, b"", 0', "0 -> 1"): (
        "a search begins two bytes earlier, which is the start again"
    ),
    (_DIALECTS + "ollama_answer.py", "done: bool = False", "done: bool = False -> done: bool = None"): (
        "it is asked only whether it is true"
    ),
}


def gone() -> list[str]:
    """Return the lines named here that are in their files no more."""
    lines = {path: Path(path).read_text() for path, _, _ in EQUIVALENT}
    texts = {path: {line.strip() for line in text.splitlines()} for path, text in lines.items()}
    return [f"{path}: {code}" for path, code, _ in EQUIVALENT if code not in texts[path]]
