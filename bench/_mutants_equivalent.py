"""Mutants that no test can find, and why: by file, line and change. An empty change stands for all of that line."""

from __future__ import annotations

_UNREAD = "chunks are read only where the output was not counted, and here it was"
_TYPES = "for the type checker alone"
_FLOOR = "the half of it is rounded down once more, to the same whole number"
_NEVER = "whatever allow() cuts below what is of use does not fit either, so nothing is reserved here"
_NEGATIVE = "any number below 0 says that not even the prompt fits"
_ALWAYS = "the first turn that begins is always more than none, so the time is not looked at"
_SLOWER = "the same is read the slow way"
_RAW = "the field is named so that it is known; nobody reads its value"
_ASKED = "self.requests.refuses(1, now)"
_SUM = "Sum(shape) if math.isinf(shape.seconds)"
_GATEWAY = "epad/gateway/"
_DIALECTS = _GATEWAY + "dialects/"

EQUIVALENT: dict[tuple[str, str, str], str] = {
    (_GATEWAY + "charge.py", "return charge_stream(seen.usage, 0, terms.bound)", ""): _UNREAD,
    (_GATEWAY + "charge.py", "charge = charge_stream(_of_a_prompt(usage, seen), 0, bound)", ""): _UNREAD,
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
        _GATEWAY + "admission.py",
        "if cap < enough:",
        "< enough -> <= enough",
    ): "of as many, as many are reserved",
    (
        _GATEWAY + "budget.py",
        "self._group_of: Mapping[str, str] = {}",
        "",
    ): "configure() sets it before it is read",
    (_GATEWAY + "admission.py", "return Admitted(short, max(enough, least), allowance.scope)", ""): _NEVER,
    (
        _GATEWAY + "admission.py",
        "ever = (largest - wish.prompt_tokens) // wish.choices",
        "(largest - wish.prompt_tokens) // wish.choices -> (largest - wish.prompt_tokens) / wish.choices",
    ): _FLOOR,
    (
        _GATEWAY + "allowance.py",
        "fits = max(-1, (room.tokens - wish.prompt_tokens) // wish.choices)",
        "1 -> 2",
    ): _NEGATIVE,
    (_GATEWAY + "allowance.py", "affordable = max(-1, affordable // wish.choices)", "1 -> 2"): _NEGATIVE,
    (_GATEWAY + "waiting.py", 'T = TypeVar("T")', ""): _TYPES,
    (_GATEWAY + "waiting.py", "Attempt = Callable[[bool, bool], T | Refused]", ""): _TYPES,
    (_DIALECTS + "anthropic.py", 'cache_control: Raw = Raw(b"")', ""): _RAW,
    (
        _DIALECTS + "body.py",
        'return cast("T", _decoder(cast("Hashable", kind)).decode(raw))',
        '"T" -> "t"',
    ): _TYPES,
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
    (_DIALECTS + "openai_chunks.py", r'and data.count(b"\n") == 2 * events', "2 -> 3"): _SLOWER,
}
