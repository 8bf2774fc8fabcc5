"""`wargame scenarios`: check scenario files, and make such files of other people's sets."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from runners import durable
from runners.wargame import wellformed
from runners.wargame.commands.arguments import Commands
from runners.wargame.commands.exits import Exit
from runners.wargame.outcomes import Label
from runners.wargame.scenario.grammar import GrammarError
from runners.wargame.scenario.imported import convert, written
from runners.wargame.scenario.library import load_grammar, read_jsonl


def add(commands: Commands) -> None:
    """Add the commands to the parser."""
    scenarios = commands.add_parser("scenarios", help="check or import scenario files")
    parts = scenarios.add_subparsers(required=True, metavar="COMMAND")
    checking = parts.add_parser("check", help="read files as `run --scenarios` would; none: the shipped one")
    checking.set_defaults(command=check)
    checking.add_argument("files", nargs="*", type=Path)
    importing = parts.add_parser("import", help="turn a JSONL set (prompt, label, ...) into scenario lines")
    importing.set_defaults(command=import_set)
    importing.add_argument("file", type=Path)
    importing.add_argument("--out", type=Path, required=True, help="a new .jsonl file")
    importing.add_argument("--label", type=Label, choices=list(Label), help="for lines that do not say")
    importing.add_argument(
        "--allow-untwinned", action="store_true", help="take the nearest benign text for a twin"
    )


def check(options: argparse.Namespace) -> Exit:
    """Read the files and count their contents."""
    grammar = load_grammar(options.files)
    families = Counter((family.category, family.split) for family in grammar.families)
    for (category, split), number in sorted(families.items()):
        print(f"{category:20} {split:10} {number} families")
    if loose := grammar.loose_families:
        print(
            f"{len(loose)} families have loose twins: {', '.join(loose[:5])}{' ...' if len(loose) > 5 else ''}"
        )
    for split in ("calibrate", "evaluate"):
        if not any(family.split == split for family in grammar.families):
            print(f"no family is of the split {split}: {_MISSING[split]}")
    return Exit.OK


_MISSING = {
    "calibrate": "the threshold cannot be calibrated, the weighted rule will decide",
    "evaluate": "there will be no held-out headline",
}


def import_set(options: argparse.Namespace) -> Exit:
    """Write the set as scenario lines that can be read back."""
    try:
        lines = wellformed.lines(options.file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise GrammarError(f"{options.file}: {error}") from error
    if options.out.suffix != ".jsonl" or options.out.exists():
        raise GrammarError(f"--out {options.out}: must be a new file that ends in .jsonl")
    entries = convert(lines, options.file.stem, options.label, allow_untwinned=options.allow_untwinned)
    text = "".join(f"{line}\n" for line in written(entries))
    read_jsonl(text, str(options.out))
    try:
        durable.write_text(options.out, text)
    except OSError as error:
        raise GrammarError(f"--out {options.out}: {error}") from error
    hard = sum(not entry.attack for entry in entries)
    print(f"{options.out}: {len(entries) - hard} attacks with twins, {hard} hard negatives")
    return Exit.OK
