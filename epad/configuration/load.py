"""Reading the configuration: layers of TOML, each key checked where it stands, every error at once.

The layers are the shipped defaults, then /etc/epad/epad.toml (or the file that `--config` names), then the
drop-ins beside it. A table is merged key by key; the last layer that sets a key wins.
"""

from __future__ import annotations

import difflib
import fnmatch
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args, get_origin

import msgspec

from epad import EpadError
from epad.configuration.checks import cross_check
from epad.configuration.complaint import Complaint
from epad.configuration.describe import describe, shown
from epad.configuration.fields import fields_of, fits, is_table, value_faults
from epad.configuration.letters import look_alike, not_toml
from epad.configuration.model_load import load_seconds
from epad.configuration.schema import Config
from epad.configuration.toml_lines import KeyPath, key_lines, key_text, line_of

SYSTEM_FILE = Path("/etc/epad/epad.toml")
# Far above any real configuration; whoever names a log file by mistake is told so instead of waiting.
MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """The place that set a key. `rank` orders the layers; line 0 is the file as a whole."""

    rank: int
    line: int
    file: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Describes one fault of the configuration: its place and the fix."""

    origin: Origin
    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.key}: {self.text}" if self.key else f"{self.origin}: {self.text}"


class ConfigError(EpadError):
    """The configuration cannot be used. `problems` holds everything that is wrong with it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True)
class Loaded:
    """Holds a configuration, its files (the shipped defaults apart), and the origin of each key."""

    config: Config
    files: tuple[Path, ...]
    origins: Mapping[str, Origin]

    def emptied_since(self, before: Loaded) -> list[Problem]:
        """The files that said something then and say nothing now: cut short by whoever writes them, most likely."""
        return [
            Problem(
                Origin(0, 0, str(path)), "", "says nothing any more; was it cut short? nothing was changed"
            )
            for path in self.files
            if not self._says_anything(path) and before._says_anything(path)
        ]

    def _says_anything(self, path: Path) -> bool:
        return any(origin.file == str(path) for origin in self.origins.values())

    def origin(self, key: str) -> Origin | None:
        """Return the place that set a key, written `table.key`; None for a default of the type itself."""
        return self.origins.get(key)

    def located(self, complaints: Iterable[Complaint]) -> list[Problem]:
        """Say of each where it was set."""
        unknown = Origin(0, 0, "configuration")
        found = ((key_text(one.key), one.text) for one in complaints)
        return sorted(Problem(self.origins.get(key) or unknown, key, text) for key, text in found)


@dataclass(frozen=True, slots=True)
class _Layer:
    """Holds one file as read."""

    rank: int
    file: str
    tables: dict[str, Any]
    lines: dict[KeyPath, int]

    def origin(self, path: KeyPath) -> Origin:
        return Origin(self.rank, line_of(self.lines, path), self.file)


@dataclass(slots=True)
class _Merge:
    """Merges the layers read so far. `doubtful` are the keys that an error already names."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, Origin] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    doubtful: set[KeyPath] = field(default_factory=set)

    def blame(self, layer: _Layer, path: KeyPath, text: str) -> None:
        """Note that a layer's key is wrong."""
        self.problems.append(Problem(layer.origin(path), key_text(path), text))
        self.doubtful.add(path)

    def begin(self, path: KeyPath, origin: Origin) -> dict[str, Any]:
        """Return the table at `path`, made if it is not there."""
        table = self.values
        for length, part in enumerate(path, 1):
            table = table.setdefault(part, {})
            self.origins.setdefault(path[:length], origin)
        return table

    def put(self, path: KeyPath, value: Any, origin: Origin) -> None:
        """Set a key."""
        self.begin(path[:-1], origin)[path[-1]] = value
        self.origins[path] = origin

    def place(self, path: KeyPath) -> Origin:
        """Return the place that set a key, or else the beginning of its table."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return Origin(0, 0, "configuration")


def find(chosen: Path | None = None) -> list[Path]:
    """Return the files to read, in order: `chosen` or the usual file, then its drop-ins by name.

    Raises ConfigError if the drop-ins cannot be listed: a limit in one of them must not be lost silently.
    """
    main = chosen or usual_file()
    drop_ins = main.parent / f"{main.name}.d"
    try:
        extra = sorted(path for path in drop_ins.iterdir() if fnmatch.fnmatch(path.name, "[!.]*.toml"))
    except (FileNotFoundError, NotADirectoryError):
        extra = []
    except OSError as error:
        text = f"cannot be listed: {error.strerror}; check its mode"
        raise ConfigError([Problem(Origin(0, 0, str(drop_ins)), "", text)]) from error
    return [*([main] if chosen or os.path.lexists(main) else []), *extra]


def usual_file() -> Path:
    """The system's file; for a user to whom its directory is closed or not there, their own.

    One that is closed is another daemon's. Where there is none only root could write the system's file.
    """
    directory = SYSTEM_FILE.parent
    is_open = os.access(directory, os.X_OK | os.R_OK) if directory.is_dir() else os.geteuid() == 0
    if is_open:
        return SYSTEM_FILE
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "epad" / SYSTEM_FILE.name


def load(*paths: Path) -> Config:
    """Read the defaults and then `paths`, in order. Raises ConfigError with everything that is wrong."""
    return read(paths).config


def read(paths: Sequence[Path]) -> Loaded:
    """Return the same, with the place that set each key. Raises ConfigError."""
    merge = _Merge()
    sources: list[Any] = [resources.files("epad") / "default.toml", *paths]
    for rank, source in enumerate(sources):
        try:
            layer = _read_layer(rank, source)
        except ConfigError as error:
            merge.problems.extend(error.problems)
        else:
            _merge_table(merge, layer, (), layer.tables, Config)
    _inherit_hysteresis(merge)
    _fit_ready_seconds(merge)
    _drop_incomplete(merge)
    config = _convert(merge)
    for complaint in cross_check(config):
        keys = (complaint.key, *complaint.others)
        if not any(_overlaps(key, merge.doubtful) for key in keys):
            # Of two keys that do not fit each other, the one that was set last has to give way.
            place = max(merge.place(key) for key in keys)
            merge.problems.append(Problem(place, key_text(complaint.key), complaint.text))
    if merge.problems:
        raise ConfigError(sorted(merge.problems))
    origins = {key_text(path): origin for path, origin in merge.origins.items()}
    return Loaded(config, tuple(paths), MappingProxyType(origins))


def _read_layer(rank: int, source: Any) -> _Layer:
    """Read one file. Raises ConfigError with the one thing that keeps it from being read."""

    def problem(text: str, line: int = 0) -> ConfigError:
        return ConfigError([Problem(Origin(rank, line, str(source)), "", text)])

    try:
        with source.open("rb") as stream:
            body = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise problem(f"cannot be read: {error.strerror}; check its path and mode") from error
    if len(body) > MAX_FILE_BYTES:
        raise problem(f"is larger than {MAX_FILE_BYTES} bytes; is it a configuration file?")
    try:
        # Editors of another system begin a file with a mark, which is no part of it (utf-8-sig takes it away).
        # tomllib counts lines after folding "\r\n", and so must the line scanner.
        text = body.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise problem("is not UTF-8; save it as UTF-8", line) from error
    try:
        return _Layer(rank, str(source), tomllib.loads(text), key_lines(text))
    except RecursionError as error:
        raise problem("is nested too deeply; no key needs that") from error
    except ValueError as error:  # TOMLDecodeError, or an integer too long for Python to read
        what, line = _syntax_error(text, str(error))
        what = not_toml(text) or what + look_alike(text, line)
        raise problem(f"is not valid TOML: {what}; correct it", line) from error


def _syntax_error(text: str, message: str) -> tuple[str, int]:
    """Take the line out of tomllib's message: until Python 3.14 it is there in words alone."""
    where = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
    if where is None:
        return message, 0
    return message[: where.start()], int(where[1] or text.rstrip("\n").count("\n") + 1)


def _merge_table(merge: _Merge, layer: _Layer, path: KeyPath, table: dict[str, Any], hint: Any) -> None:
    """Check one table against its type, and lay its valid keys over those of the layers before."""
    merge.begin(path, layer.origin(path))
    if get_origin(hint) is dict:
        key_hint, value_hint = get_args(hint)
        for key, value in table.items():
            if fits(key, key_hint):
                _merge_value(merge, layer, (*path, key), value, value_hint)
            else:
                merge.blame(layer, (*path, key), f"{shown(key)} is not {describe(key_hint)}; rename it")
        return
    hints = fields_of(hint)
    for key, value in table.items():
        if key in hints:
            _merge_value(merge, layer, (*path, key), value, hints[key])
        else:
            _blame_unknown(merge, layer, (*path, key), list(hints))


def _merge_value(merge: _Merge, layer: _Layer, path: KeyPath, value: Any, hint: Any) -> None:
    if is_table(hint):
        if isinstance(value, dict):
            _merge_table(merge, layer, path, value, hint)
        else:
            merge.blame(layer, path, f"is {shown(value)}; this is a table: write [{key_text(path)}]")
        return
    problems = list(value_faults(value, hint))
    for text in problems:
        merge.blame(layer, path, text)
    if not problems:
        merge.put(path, value, layer.origin(path))


def _blame_unknown(merge: _Merge, layer: _Layer, path: KeyPath, known: list[str]) -> None:
    nearest = difflib.get_close_matches(path[-1], known, n=1)
    fix = f"did you mean {nearest[0]}?" if nearest else f"known here: {', '.join(known)}"
    merge.blame(layer, path, f"is not a known key; {fix}")
    # Whatever that key was meant to be is not also reported as missing.
    merge.doubtful.update((*path[:-1], name) for name in nearest)


def _inherit_hysteresis(merge: _Merge) -> None:
    """Fill each hysteresis table from `hysteresis.default`."""
    tables: dict[str, dict[str, Any]] = merge.values["hysteresis"]
    for name, table in tables.items():
        for key, value in tables["default"].items():
            if key not in table:
                table[key] = value
                merge.origins["hysteresis", name, key] = merge.origins["hysteresis", "default", key]


def _fit_ready_seconds(merge: _Merge) -> None:
    """Give a subsystem that serves a model as long as the model's size takes, where the file does not say how long."""
    served = {table.get("served_by") for table in merge.values.get("upstreams", {}).values()}
    for name, table in merge.values.get("subsystems", {}).items():
        if "ready_seconds" in table or not (name in served or table.get("serves")):
            continue
        seconds = load_seconds(
            table.get("command", ()), table.get("working_directory", ""), table.get("environment", {})
        )
        if seconds:
            table["ready_seconds"] = seconds


def _drop_incomplete(merge: _Merge) -> None:
    """Report the named tables that lack a key they must have, and go on without them."""
    for section, hint in fields_of(Config).items():
        tables = merge.values.get(section, {})
        if get_origin(hint) is not dict or not is_table(get_args(hint)[1]):
            continue
        kind = get_args(hint)[1]
        hints = fields_of(kind)
        required = [item.name for item in msgspec.structs.fields(kind) if item.required]
        for name in list(tables):
            missing = [key for key in required if key not in tables[name]]
            for key in missing:
                _blame_missing(merge, (section, name, key), describe(hints[key]))
            if missing:
                del tables[name]


def _blame_missing(merge: _Merge, path: KeyPath, wanted: str) -> None:
    if path not in merge.doubtful:
        merge.problems.append(Problem(merge.place(path), key_text(path), f"is missing; give {wanted}"))


def _convert(merge: _Merge) -> Config:
    try:
        return msgspec.convert(merge.values, Config)
    except msgspec.ValidationError as error:
        merge.problems.append(Problem(merge.place(()), "", str(error)))
        raise ConfigError(merge.problems) from error


def _overlaps(path: KeyPath, doubtful: Iterable[KeyPath]) -> bool:
    return any(path[: len(other)] == other or other[: len(path)] == path for other in doubtful)
