"""Tools of the category `git` that read a repository. `git_changes.py` has those that write."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from runners.tools import git_changes, output, repository
from runners.tools.repository import Repository
from runners.tools.signature import Args, PathArg, Result, ToolError, meta

Revision = Annotated[str, Meta(max_length=300)]
_LOG_FORMAT: Final = "%H%n%aI%n%an%n%s"


class Changed(msgspec.Struct, frozen=True):
    """Describes one changed file, by git's letter: M, A, D, R, T, U."""

    path: str
    change: str


class RepoArgs(Args, frozen=True):
    """Names the top directory of a repository."""

    repo: PathArg = "."


class StatusResult(Result, frozen=True):
    """Holds the state of a repository."""

    branch: str
    ahead: int
    behind: int
    staged: list[Changed]
    unstaged: list[Changed]
    untracked: list[str]
    truncated: bool


GIT_STATUS: Final = meta(
    "git_status",
    RepoArgs,
    StatusResult,
    risk="R1",
    timeout=30,
    description="Show the state of a work tree: branch, staged, unstaged and untracked files.",
    examples=({},),
)


@GIT_STATUS.tool
async def git_status(args: RepoArgs) -> StatusResult:
    """Read git's second porcelain format."""
    with repository.opened(args.repo) as repo:
        records = repo.lines(
            "status", "--porcelain=v2", "--branch", "-z", "--ignore-submodules=all", "--no-renames"
        )
    branch, ahead, behind = "", 0, 0
    staged: list[Changed] = []
    unstaged: list[Changed] = []
    untracked: list[str] = []
    for record in records:
        match record.split(" "):
            case ["#", "branch.head", name]:
                branch = name
            case ["#", "branch.ab", plus, minus]:
                ahead, behind = int(plus), -int(minus)
            case ["1" | "u" as kind, letters, *_]:
                path = record.split(" ", 8 if kind == "1" else 10)[-1]
                staged += [Changed(path, letters[0])] if letters[0] != "." else []
                unstaged += [Changed(path, letters[1])] if letters[1] != "." else []
            case ["?", *_]:
                untracked.append(record[2:])
    share = output.room() // 3
    cuts = [output.cut_items(each, 5000, share) for each in (staged, unstaged)]
    names, cut = output.cut_items(untracked, 5000, share)
    return StatusResult(
        branch=branch,
        ahead=ahead,
        behind=behind,
        staged=cuts[0][0],
        unstaged=cuts[1][0],
        untracked=names,
        truncated=cut or cuts[0][1] or cuts[1][1],
    )


class DiffFile(msgspec.Struct, frozen=True):
    """Describes one file of a diff; a binary one has no counts of lines."""

    path: str
    added: int | None
    removed: int | None


class DiffArgs(RepoArgs, frozen=True, kw_only=True):
    """Chooses what is compared: the work tree with the index or a target, or the index with HEAD (staged)."""

    target: Revision | None = None
    paths: list[str] | None = None
    staged: bool = False
    context: Annotated[int, Meta(ge=0, le=100)] = 3


class DiffResult(Result, frozen=True):
    """Holds a diff."""

    diff: str
    files: list[DiffFile]
    truncated: bool


GIT_DIFF: Final = meta(
    "git_diff",
    DiffArgs,
    DiffResult,
    risk="R1",
    timeout=30,
    description="Show changes as a diff: unstaged, staged, or of revisions (a commit or a..b).",
    examples=({}, {"target": "v1..HEAD", "paths": ["notes.txt"]}),
)
_DIFF: Final = ("--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=all", "--no-renames")


@GIT_DIFF.tool
async def git_diff(args: DiffArgs) -> DiffResult:
    """Resolve the target to hashes first, so that it cannot be taken for an option."""
    paths = repository.relative_paths(args.paths or [])
    with repository.opened(args.repo) as repo:
        compared = [*(["--cached"] if args.staged else []), *_range(repo, args.target), "--"]
        names = repo.lines("diff", *_DIFF, "--name-only", "-z", *compared, *paths)
        paths, hidden = repo.readable(names, paths)
        chosen = [*compared, *paths]
        diff, cut = repo.run("diff", *_DIFF, f"--unified={args.context}", *chosen, limit=output.room())
        records = repo.lines("diff", *_DIFF, "--numstat", "-z", *chosen)
    files, _ = output.cut_items(map(_diff_file, records), 1000, output.room() // 4)
    text, shortened = output.cut_and_keep(
        diff.decode(errors="replace"), output.room() - output.json_bytes(files)
    )
    return DiffResult(diff=text, files=files, truncated=cut or shortened or hidden)


def _range(repo: Repository, target: str | None) -> list[str]:
    if target is None:
        return []
    for dots in ("...", ".."):
        if dots in target:
            old, new = target.split(dots, 1)
            return [f"{repo.commit(old or 'HEAD')}{dots}{repo.commit(new or 'HEAD')}"]
    return [repo.commit(target)]


def _diff_file(record: str) -> DiffFile:
    added, removed, path = record.split("\t", 2)
    return DiffFile(path, None if added == "-" else int(added), None if removed == "-" else int(removed))


class Commit(msgspec.Struct, frozen=True):
    """Describes one commit."""

    sha: str
    author: str
    date: str
    subject: str


class LogArgs(RepoArgs, frozen=True, kw_only=True):
    """Chooses commits. Times are as git takes them: 2026-11-30, or 2 weeks ago."""

    limit: Annotated[int, Meta(ge=1, le=500)] = 20
    path: PathArg | None = None
    since: Annotated[str, Meta(max_length=100)] | None = None
    until: Annotated[str, Meta(max_length=100)] | None = None


class LogResult(Result, frozen=True):
    """Holds commits, the newest first."""

    commits: list[Commit]


GIT_LOG: Final = meta(
    "git_log",
    LogArgs,
    LogResult,
    risk="R1",
    timeout=30,
    description="List the history of commits, newest first, by path or time.",
    examples=({}, {"path": "notes.txt", "limit": 1}),
)


@GIT_LOG.tool
async def git_log(args: LogArgs) -> LogResult:
    """List commits that HEAD leads to."""
    paths = repository.relative_paths([args.path] if args.path else [])
    if any(ord(each) < 32 for each in f"{args.since or ''}{args.until or ''}"):
        raise ToolError("a time has control characters", "as in 2026-11-30, or 2 weeks ago")
    times = [f"--{name}={value}" for name, value in (("since", args.since), ("until", args.until)) if value]
    with repository.opened(args.repo) as repo:
        if not repo.head()[1]:
            return LogResult(commits=[])
        wanted = [
            "-z",
            "--no-show-signature",
            "--no-color",
            f"--max-count={args.limit}",
            f"--format={_LOG_FORMAT}",
        ]
        records = repo.lines("log", *wanted, *times, "HEAD", "--", *paths)
    commits = (_commit(record) for record in records)
    return LogResult(commits=output.cut_items(commits, args.limit)[0])


def _commit(record: str) -> Commit:
    sha, date, author, subject = (record.split("\n", 3) + [""] * 4)[:4]
    return Commit(sha, output.cut_line(author), date, output.cut_line(subject))


class ShowArgs(RepoArgs, frozen=True, kw_only=True):
    """Names a commit, and perhaps one path of it."""

    revision: Revision
    path: PathArg | None = None


class ShowResult(Result, frozen=True):
    """Holds a commit with its changes to its first parent."""

    commit: Commit
    message: str
    diff: str
    truncated: bool


GIT_SHOW: Final = meta(
    "git_show",
    ShowArgs,
    ShowResult,
    risk="R1",
    timeout=30,
    description="Show a commit: author, date, message and its diff, of one path if given.",
    examples=({"revision": "HEAD"}, {"revision": "v1", "path": "notes.txt"}),
)


@GIT_SHOW.tool
async def git_show(args: ShowArgs) -> ShowResult:
    """Show by the hash that the revision stands for."""
    paths = repository.relative_paths([args.path] if args.path else [])
    with repository.opened(args.repo) as repo:
        sha = repo.commit(args.revision)
        whole, _ = repo.run(
            "show", "--no-patch", "--no-show-signature", f"--format={_LOG_FORMAT}%n%b", sha, limit=65536
        )
        shown = [
            "show",
            *_DIFF,
            "--format=",
            "--diff-merges=first-parent",
            "--no-show-signature",
            sha,
            "--",
        ]
        names = repo.lines(*shown[:1], "--name-only", "-z", *shown[1:], *paths)
        paths, hidden = repo.readable(names, paths)
        diff, cut = repo.run(*shown, *paths, limit=output.room())
    head, _, _ = (text := whole.decode(errors="replace")).partition("\n\n")
    commit = _commit("\n".join(text.split("\n")[:4]))
    message, _ = output.cut_text(
        "\n".join([commit.subject, *text.split("\n")[4:]]).strip(), output.room() // 4
    )
    text, shortened = output.cut_and_keep(
        diff.decode(errors="replace"), output.room() - output.json_bytes([message, head])
    )
    return ShowResult(commit=commit, message=message, diff=text, truncated=cut or shortened or hidden)


class BlameLine(msgspec.Struct, frozen=True):
    """Describes who last changed a line."""

    line: int
    sha: str
    author: str
    date: str
    text: str


class BlameArgs(Args, frozen=True, rename={"first": "from", "last": "to"}):
    """Names lines of a file, the first 200 unless told."""

    path: PathArg
    first: Annotated[int, Meta(ge=1)] = 1
    last: Annotated[int, Meta(ge=1)] | None = None


class BlameResult(Result, frozen=True):
    """Holds lines."""

    lines: list[BlameLine]
    truncated: bool


GIT_BLAME: Final = meta(
    "git_blame",
    BlameArgs,
    BlameResult,
    risk="R1",
    timeout=60,
    description="Tell the commit and author that last changed each line of a file.",
    examples=({"path": "notes.txt"}, {"path": "notes.txt", "from": 2, "to": 3}),
)


@GIT_BLAME.tool
async def git_blame(args: BlameArgs) -> BlameResult:
    """Blame by git's porcelain format for lines."""
    last = args.first + 199 if args.last is None else args.last
    if last < args.first:
        raise ToolError(f"to={last} is before from={args.first}", "give the first line, then the last")
    with repository.containing(args.path) as (repo, path):
        out, cut = repo.run(
            "blame", "--no-textconv", "--line-porcelain", "-L", f"{args.first},{last}", "--", path
        )
    lines, more = output.cut_items(_blamed(out.decode(errors="replace")), last - args.first + 1)
    return BlameResult(lines=lines, truncated=cut or more)


def _blamed(text: str) -> Any:
    facts: dict[str, str] = {}
    sha, number = "", 0
    for record in text.split("\n"):
        if record.startswith("\t"):
            when = datetime.fromtimestamp(int(facts.get("author-time", "0")), UTC)
            date = when.isoformat().replace("+00:00", "Z")
            yield BlameLine(number, sha, facts.get("author", ""), date, output.cut_line(record[1:]))
            facts, sha = {}, ""
        elif not sha and record:
            sha, _, final, *_ = record.split(" ")
            number = int(final)
        else:
            key, _, value = record.partition(" ")
            facts[key] = value


git_branch, git_checkout, git_commit, git_stash, git_tag = (
    git_changes.git_branch,
    git_changes.git_checkout,
    git_changes.git_commit,
    git_changes.git_stash,
    git_changes.git_tag,
)
TOOLS: Final = (GIT_BLAME, GIT_DIFF, GIT_LOG, GIT_SHOW, GIT_STATUS, *git_changes.TOOLS)
