"""Derive which request fields each kind of model server publishes, and write epad/gateway/server_fields.toml.

Field names alone are taken over, with where they stand. Fetch first, into two folders:

    pip download --no-deps -d PACKAGES openai anthropic mistralai vllm sglang transformers xai-sdk openrouter litellm
    pip download --no-deps --no-binary :all: -d PACKAGES llama-cpp-python
    for name in ollama/ollama huggingface/text-generation-inference lmstudio-ai/docs oobabooga/text-generation-webui; do
        git clone --bare https://github.com/$name MIRRORS/$(echo $name | tr / +)/repo
    done

then `python docs/server_fields.py PACKAGES MIRRORS`. What a field does is not derived: that is decided by hand, in
epad/gateway/field_kinds.toml; the script ends with the names that it found and that file does not have.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent / "server_fields_sources.toml"
OUTPUT = Path(__file__).parent.parent / "epad" / "gateway" / "server_fields.toml"

Read = Callable[[str], str]


@dataclass(frozen=True)
class Place:
    """A package of an index or a git repository, and its version."""

    name: str
    version: str
    read: Read


def python_class(*names: str) -> Callable[[str], set[str]]:
    """Find the fields of these classes and of their bases, as far as those stand in the same files."""

    def find(text: str) -> set[str]:
        classes = {node.name: node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)}
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            node = classes.get(waiting.pop())
            if node is None:
                continue
            waiting += [base.id for base in node.bases if isinstance(base, ast.Name)]
            found |= set(_class_fields(node))
        return found

    return find


def _class_fields(node: ast.ClassDef) -> Iterator[str]:
    for line in node.body:
        if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name):
            continue
        written = ast.unparse(line)
        alias = re.search(r"alias=['\"](\w+)['\"]", written)
        if not line.target.id.startswith("_") and "PrivateAttr" not in written and "ClassVar" not in written:
            yield alias[1] if alias else line.target.id


def python_list(*names: str) -> Callable[[str], set[str]]:
    """Find the text constants in what is assigned to these names: a list, a set, or a dictionary's keys."""

    def find(text: str) -> set[str]:
        found: set[str] = set()
        for node in ast.walk(ast.parse(text)):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if isinstance(node, ast.Assign | ast.AnnAssign) and any(
                isinstance(target, ast.Name) and target.id in names for target in targets
            ):
                value = node.value
                entries = value.keys if isinstance(value, ast.Dict) else getattr(value, "elts", [])
                found |= {entry.value for entry in entries if isinstance(entry, ast.Constant)}
        return found

    return find


def go_struct(*names: str) -> Callable[[str], set[str]]:
    """Find the JSON names of these structs' fields, and of the structs that stand in them without a name."""

    def find(text: str) -> set[str]:
        found: set[str] = set()
        for name in names:
            body = re.search(rf"^type {name} struct \{{$(.*?)^\}}$", text, re.MULTILINE | re.DOTALL)
            if body is None:
                raise LookupError(f"no struct {name}")
            found |= set(re.findall(r'`json:"(\w+)', body[1]))
        return found

    return find


def cpp_body(*sections: str) -> Callable[[str], set[str]]:
    """Find the names that llama.cpp's server reads from a request: its schema's, and those its parsers ask for.

    `sections` are the functions that parse, by what their definitions begin with; the schema is always read.
    """

    def find(text: str) -> set[str]:
        found = set(re.findall(r'new field_\w+\("([\w.]+)"', text))
        found |= set(re.findall(r'add_alias\("([\w.]+)"\)', text))
        for section in sections:
            parts = re.findall(rf"^(?:static )?[\w:<>]+ {section}\(.*?^\}}", text, re.MULTILINE | re.DOTALL)
            if not parts:
                raise LookupError(f"no function {section}")
            for part in parts:
                found |= set(
                    re.findall(
                        r'(?:json_value\(\w*(?:body|data), |body\.(?:at|contains|count)\()"([\w.]+)"', part
                    )
                )
                for listed in re.findall(r"key : \{([^}]*)\}", part):
                    found |= set(re.findall(r'"(\w+)"', listed))
        return found

    return find


def cpp_only(*sections: str) -> Callable[[str], set[str]]:
    """As `cpp_body`, for a route whose other fields are not passed on."""
    both = cpp_body(*sections)
    schema = cpp_body()
    return lambda text: (both(text) - schema(text)) | _asked_by(text, sections)


def _asked_by(text: str, sections: tuple[str, ...]) -> set[str]:
    without_schema = re.sub(r'new field_\w+\("[\w.]+"|add_alias\("[\w.]+"\)', "", text)
    return cpp_body(*sections)(without_schema)


def openapi(*schemas: str) -> Callable[[str], set[str]]:
    """Find the properties of these schemas."""

    def find(text: str) -> set[str]:
        components = json.loads(text)["components"]["schemas"]
        return {name for schema in schemas for name in components[schema]["properties"]}

    return find


def protobuf_class(name: str) -> Callable[[str], set[str]]:
    """Find the fields of a message in the stub that protoc writes."""

    def find(text: str) -> set[str]:
        classes = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}
        numbers = [line.target.id for line in classes[name].body if isinstance(line, ast.AnnAssign)]
        return {
            number.removesuffix("_FIELD_NUMBER").lower()
            for number in numbers
            if number.endswith("_FIELD_NUMBER")
        }

    return find


def code_block(text: str) -> set[str]:
    """Find the names in a page's block of one name a line."""
    blocks = re.findall(r"^```py\n((?:\w+\n)+)```", text, re.MULTILINE)
    return set(blocks[-1].split())


FINDERS = {
    "code_block": lambda: code_block,
    "cpp_body": cpp_body,
    "cpp_only": cpp_only,
    "go_struct": go_struct,
    "openapi": openapi,
    "protobuf_class": protobuf_class,
    "python_class": python_class,
    "python_list": python_list,
}


def packages(folder: Path) -> Iterator[Place]:
    """Every package in a folder of wheels and source archives."""
    for path in sorted(folder.iterdir()):
        if path.suffix == ".whl":
            name, version = path.name.split("-")[:2]
            yield Place(name, f"{name} {version}", _wheel(path))
        elif path.name.endswith(".tar.gz"):
            stem = path.name.removesuffix(".tar.gz")
            name, _, version = stem.rpartition("-")
            yield Place(name, f"{name} {version}", _archive(path, stem))


def _wheel(path: Path) -> Read:
    return lambda file: zipfile.ZipFile(path).read(file).decode()


def _archive(path: Path, stem: str) -> Read:
    def read(file: str) -> str:
        with tarfile.open(path) as archive:
            member = archive.extractfile(f"{stem}/{file}")
            if member is None:
                raise LookupError(f"{path}: no {file}")
            return member.read().decode()

    return read


def mirrors(folder: Path) -> Iterator[Place]:
    """Every bare repository in a folder, at its newest commit."""
    for path in sorted(folder.glob("*/repo")):
        name = path.parent.name.replace("+", "/", 1)
        commit = _git(path, "rev-parse", "HEAD").strip()
        yield Place(name, f"{name} {commit[:12]}", _repository(path))


def _repository(path: Path) -> Read:
    return lambda file: _git(path, "show", f"HEAD:{file}")


def _git(path: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(path), *words], check=True, capture_output=True, text=True).stdout


def derive(places: dict[str, Place]) -> dict[tuple[str, str], tuple[list[str], list[str]]]:
    """For each server and route: the sources, and the names they list."""
    found: dict[tuple[str, str], tuple[list[str], set[str]]] = {}
    texts: dict[tuple[str, str], str] = {}
    given = tomllib.loads(SOURCES.read_text())
    for listed in given["lists"]:
        server, route, place = listed["server"], listed["route"], places.get(listed["place"])
        if place is None:
            raise SystemExit(f"{listed['place']} is not there: fetch it as this script's first lines say")
        for file in listed["files"]:
            if (place.name, file) not in texts:
                texts[place.name, file] = place.read(file)
        find = FINDERS[listed["find"]](*listed["names"])
        names = find("\n".join(texts[place.name, file] for file in listed["files"]))
        if not names:
            raise SystemExit(f"{place.version} {listed['files']}: nothing found for {server} {route}")
        sources, known = found.setdefault((server, route), ([], set()))
        sources.append(f"{place.version}: {', '.join(listed['files'])}")
        known |= names
    for page in given["pages"]:
        sources, known = found.setdefault((page["server"], page["route"]), ([], set()))
        sources.append(page["page"])
        known |= set(page["names"].split())
    return {key: (sources, sorted(known)) for key, (sources, known) in sorted(found.items())}


def as_toml(found: dict[tuple[str, str], tuple[list[str], list[str]]]) -> str:
    """The data file."""
    lines = [
        "# Written by docs/server_fields.py: which fields each kind of server publishes, by route. Do not edit."
    ]
    for (server, route), (sources, names) in found.items():
        lines += ["", f'["{server}"."{route}"]', f"sources = {json.dumps(sources)}", "fields = ["]
        lines += [f'    "{name}",' for name in names]
        lines.append("]")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> None:
    """Write the data file from the two folders."""
    if len(arguments) != 2:
        raise SystemExit(__doc__)
    places = {place.name: place for place in (*packages(Path(arguments[0])), *mirrors(Path(arguments[1])))}
    found = derive(places)
    OUTPUT.write_text(as_toml(found))
    kinds = tomllib.loads((OUTPUT.parent / "field_kinds.toml").read_text())
    decided = {name for entry in kinds["entries"] for name in entry["names"]}
    for (server, route), (_, names) in found.items():
        print(f"{len(names):4} {server} {route}")
    undecided = {name for _, names in found.values() for name in names} - decided
    print("to be decided:", ", ".join(sorted(undecided)) or "nothing")


if __name__ == "__main__":
    main(sys.argv[1:])
