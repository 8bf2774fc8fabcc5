"""Define the settings of a run, checked as far as possible without the model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from runners.quantize.fault import SettingsError
from runners.quantize.storage import STORAGES, Storage

SOLVERS: Final = ("gptq", "hqq", "imatrix", "rtn")
SIGNALS: Final = ("fisher", "drift", "kl", "imatrix")
ALLOCATORS: Final = ("exact", "greedy")
GIB: Final = 1 << 30

# CUDA context and allocator slack, seen at 0.5 to 0.8 GiB on consumer cards.
RUNTIME_RESERVE_BYTES: Final = 8 * GIB // 10


@dataclass(frozen=True, slots=True)
class Bound:
    """A floor (`o_proj>=4`), a ceiling (`layers.0.*<=8`) or a fixed choice (`lm_head==8`) for layers by name."""

    pattern: str
    operator: str
    bits: int

    @classmethod
    def parse(cls, text: str) -> Bound:
        """Read `PATTERN>=BITS`; a pattern without `*` matches any part of the name between dots."""
        match = re.fullmatch(r"\s*([\w.*?\[\]-]+)\s*(>=|<=|==)\s*(\d+)\s*", text)
        if match is None:
            raise SettingsError(f"--bound {text!r}: expected PATTERN>=BITS, <= or ==, such as 'o_proj>=4'")
        return cls(match[1], match[2], int(match[3]))

    def covers(self, layer: str) -> bool:
        if any(sign in self.pattern for sign in "*?["):
            return fnmatchcase(layer, self.pattern)
        return f".{self.pattern}." in f".{layer}."

    def allows(self, bits: int) -> bool:
        return {">=": bits >= self.bits, "<=": bits <= self.bits, "==": bits == self.bits}[self.operator]

    def __str__(self) -> str:
        return f"{self.pattern}{self.operator}{self.bits}"


@dataclass(frozen=True, slots=True)
class Memory:
    """Describes the needs beside the weights under a ceiling, all in the units of a user's question."""

    ceiling_bytes: int = 0
    context: int = 8_192
    batch: int = 1
    lora_rank: int = 0
    reserve_bytes: int = RUNTIME_RESERVE_BYTES


@dataclass(frozen=True, slots=True)
class Settings:
    """Holds everything but the files that decides the result. Equal settings and files make equal bytes."""

    storage: str = "compressed-tensors"
    solver: str = "gptq"
    group: int = 64
    bits: tuple[int, ...] = (2, 3, 4, 5, 6, 8)
    signal: str = "fisher"
    allocator: str = "exact"
    bits_per_weight: float = 0.0
    memory: Memory = Memory()
    bounds: tuple[Bound, ...] = ()
    fused: bool = True
    calibration_windows: int = 32
    window: int = 2_048
    evaluation_windows: int = 0
    kl_windows: int = 2
    micro_batch: int = 8
    seed: int = 1
    device: str = "auto"
    threads: int = 1

    def __post_init__(self) -> None:
        for name, allowed in (("solver", SOLVERS), ("signal", SIGNALS), ("allocator", ALLOCATORS)):
            if getattr(self, name) not in allowed:
                raise SettingsError(f"--{name} {getattr(self, name)}: choose one of {', '.join(allowed)}")
        if self.storage not in STORAGES:
            raise SettingsError(f"--storage {self.storage}: choose one of {', '.join(STORAGES)}")
        if self.solver == "hqq" and self.storage != "hqq":
            raise SettingsError("--solver hqq: its float zero points fit only --storage hqq")
        if not self.bits or list(self.bits) != sorted(set(self.bits)):
            raise SettingsError(f"--bits {self.bits}: give each once, in rising order, such as 2,3,4,8")
        self.format.check(self.bits, self.group)
        if self.bits_per_weight and self.memory.ceiling_bytes:
            raise SettingsError("--bpw and --ceiling: give one; a ceiling leaves whatever bits fit")
        for name in ("calibration_windows", "window", "micro_batch", "threads", "kl_windows"):
            if getattr(self, name) < 1:
                raise SettingsError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least 1")

    @property
    def format(self) -> Storage:
        return STORAGES[self.storage]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Settings:
        """Return the settings that `as_json` told of."""
        plain = {**values, "bits": tuple(values["bits"]), "memory": Memory(**values["memory"])}
        return cls(**{**plain, "bounds": tuple(Bound.parse(text) for text in values["bounds"])})

    def as_json(self) -> dict[str, Any]:
        """Return the deciding settings as plain values; device and batch sizes count, in the last digits."""
        names = [n for n in self.__slots__ if n not in {"memory", "bounds"}]
        values: dict[str, Any] = {name: getattr(self, name) for name in names}
        memory = {name: getattr(self.memory, name) for name in self.memory.__slots__}
        return {**values, "memory": memory, "bounds": [str(bound) for bound in self.bounds]}
