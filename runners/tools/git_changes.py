"""Tools of the category `git` that change a repository. The old commit of a changed reference is told as an effect."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from runners.tools import beneath, output, repository
from runners.tools.repository import Repository
from runners.tools.signature import CONTEXT, Args, PathArg, Result, ToolError, meta

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Message = Annotated[str, Meta(min_length=1, max_length=16384)]
Paths = Annotated[list[str], Meta(max_length=500)]


class CommitArgs(Args, frozen=True):
    """Holds a message and the files to commit; without paths, what is staged."""

    message: Message
    paths: Paths
    repo: PathArg = "."


class CommitResult(Result, frozen=True):
    """Tells the new commit."""

    sha: str
    files: list[str]


GIT_COMMIT: Final = meta(
    "git_commit",
    CommitArgs,
    CommitResult,
    risk="W1",
    timeout=60,
    description="Commit files by path (new ones too), or what is staged. Hooks and filters do not run.",
    examples=(
        {"message": "Add a line", "paths": ["notes.txt"]},
        {"message": "New file", "paths": ["fresh.txt"]},
    ),
)


@GIT_COMMIT.tool
async def git_commit(args: CommitArgs) -> CommitResult:
    """Add the paths, then commit these alone."""
    paths = repository.relative_paths(args.paths)
    with repository.opened(args.repo) as repo:
        if paths:
            touched = repo.lines("ls-files", "-z", "-m", "-o", "-d", "--exclude-standard", "--", *paths)
            repo.refuse_unreadable(touched)
            repo.refuse_filtered(list(dict.fromkeys(touched))[:1000])
            repo.run("add", "--all", "--", *paths, changes=True)
        name, old = repo.head()
        only = ["--only", "--", *paths] if paths else []
        plainly = ("commit", "--no-verify", "--no-gpg-sign", "--quiet", "-F", "-")
        try:
            repo.run(*plainly, *only, text=args.message, changes=True)
        except ToolError:
            if repo.lines("diff", "--cached", "--name-only", "-z"):
                raise
            raise ToolError("there is nothing to commit", "git_status shows what has changed") from None
        new = repo.commit("HEAD")
        files = _changed_by(repo, new)
        CONTEXT.get().note_effect(repo.place(name), old or None, new)
    return CommitResult(sha=new, files=output.cut_items(files, 5000)[0])


def _changed_by(repo: Repository, commit: str) -> list[str]:
    return repo.lines("diff-tree", "-r", "-z", "--root", "--name-only", "--no-commit-id", commit)


class Branch(msgspec.Struct, frozen=True):
    """Describes one branch."""

    name: str
    sha: str
    current: bool


class BranchArgs(Args, frozen=True, rename={"start": "from"}):
    """Names the branch to create; without a name, branches are listed."""

    repo: PathArg = "."
    name: Name | None = None
    start: Name | None = None


class BranchResult(Result, frozen=True):
    """Holds branches, or the one that was created."""

    branches: list[Branch] | UnsetType = UNSET
    created: str | UnsetType = UNSET


GIT_BRANCH: Final = meta(
    "git_branch",
    BranchArgs,
    BranchResult,
    risk="W1",
    timeout=30,
    description="List branches, or create one (from HEAD unless told). It is not checked out.",
    examples=({}, {"name": "feature/one", "from": "v1"}),
)


@GIT_BRANCH.tool
async def git_branch(args: BranchArgs) -> BranchResult:
    """Create by hash, so that no name is taken for an option."""
    with repository.opened(args.repo) as repo:
        if args.name is None:
            records = _references(repo, "refs/heads", "%(refname:short)", "%(objectname)", "%(HEAD)")
            listed = (Branch(name, sha, head == "*") for name, sha, head in records)
            return BranchResult(branches=output.cut_items(listed, 2000)[0])
        name, commit = repository.reference(args.name, "branch"), repo.commit(args.start or "HEAD")
        repo.run("branch", "--no-track", name, commit, changes=True)
        CONTEXT.get().note_effect(repo.place(f"refs/heads/{name}"), None, commit)
    return BranchResult(created=name)


def _references(repo: Repository, below: str, *fields: str) -> list[list[str]]:
    out, _ = repo.run("for-each-ref", f"--format={'%00'.join(fields)}", below)
    lines = (line for line in out.decode(errors="replace").split("\n") if line)
    return [line.split("\0") for line in lines if line.count("\0") == len(fields) - 1]


class CheckoutArgs(Args, frozen=True):
    """Names a branch or commit, and perhaps only some of its paths."""

    name: Name
    repo: PathArg = "."
    paths: Paths | None = None


class CheckoutResult(Result, frozen=True):
    """Tells where HEAD is now, and the files that differ from before."""

    head: str
    changed: list[str]


GIT_CHECKOUT: Final = meta(
    "git_checkout",
    CheckoutArgs,
    CheckoutResult,
    risk="W2",
    timeout=60,
    description="Check out a branch or commit; with paths only these files, whose changes are lost.",
    examples=({"name": "topic", "paths": ["notes.txt"]},),
)


@GIT_CHECKOUT.tool
async def git_checkout(args: CheckoutArgs) -> CheckoutResult:
    """Check out; files that tools do not write are refused before anything changes."""
    with repository.opened(args.repo) as repo:
        commit, old = repo.commit(args.name), repo.head()[1]
        paths = repository.relative_paths(args.paths or [])
        compared = ["diff", "--no-renames", "--name-only", "-z", "--no-ext-diff", "--no-textconv", commit]
        changed = repo.lines(*compared, "--", *paths)
        if not paths and old:
            changed = repo.lines(*compared, old, "--")
        repo.refuse_protected(changed)
        if paths:
            _checkout_paths(repo, commit, changed)
        elif _is_branch(repo, args.name):
            repo.run("checkout", "--no-recurse-submodules", "--quiet", args.name, "--", changes=True)
        else:
            repo.run("checkout", "--no-recurse-submodules", "--quiet", "--detach", commit, "--", changes=True)
        now, new = repo.head()
        if not paths:
            CONTEXT.get().note_effect(repo.place("HEAD"), old or None, new)
    head = now.removeprefix("refs/heads/") if now != "HEAD" else new
    return CheckoutResult(head=head, changed=output.cut_items(changed, 5000)[0])


def _checkout_paths(repo: Repository, commit: str, changed: list[str]) -> None:
    """Bring back files that differ, and tell each as an effect."""
    places = [beneath.joined((repo.path, path)) for path in changed]
    before = [_hash_or_none(place) for place in places]
    if changed:
        repo.run("checkout", "--no-recurse-submodules", "--quiet", commit, "--", *changed, changes=True)
    for place, old in zip(places, before, strict=True):
        CONTEXT.get().note_effect(place, old, _hash_or_none(place))


def _hash_or_none(path: str) -> str | None:
    try:
        return beneath.hash_at(path)
    except ToolError:
        return None  # its directory is not there


def _is_branch(repo: Repository, name: str) -> bool:
    return any(found == name for (found,) in _references(repo, "refs/heads", "%(refname:short)"))


class StashArgs(Args, frozen=True):
    """Names the action."""

    repo: PathArg = "."
    action: Literal["push", "pop", "list"] = "list"


class StashResult(Result, frozen=True):
    """Holds the stashes that there are now, the newest first."""

    stashes: list[str]


GIT_STASH: Final = meta(
    "git_stash",
    StashArgs,
    StashResult,
    risk="W1",
    timeout=60,
    description="Put uncommitted changes aside (push), bring the newest back (pop), or list them.",
    examples=({"action": "push"}, {}),
)


@GIT_STASH.tool
async def git_stash(args: StashArgs) -> StashResult:
    """Push or pop, then list."""
    with repository.opened(args.repo) as repo:
        old = _stashes(repo)
        if args.action == "pop":
            if not old:
                raise ToolError("nothing is put aside", "git_stash with action=push puts changes aside")
            repo.refuse_protected(_put_aside(repo))
            repo.run("stash", "pop", "--quiet", changes=True)
        elif args.action == "push":
            modified = repo.lines("diff", "--name-only", "-z", "--no-ext-diff", "HEAD", "--")
            repo.refuse_protected(modified)
            repo.refuse_filtered(modified[:1000])
            repo.run("stash", "push", "--quiet", changes=True)
        new = _stashes(repo)
        if args.action != "list":
            CONTEXT.get().note_effect(
                repo.place("refs/stash"), *(each[0][0] if each else None for each in (old, new))
            )
    return StashResult(stashes=output.cut_items([each[1] for each in new], 500)[0])


def _put_aside(repo: Repository) -> list[str]:
    """Return the files of the newest stash; a third parent has those that git did not know, if they were taken."""
    names = repo.lines("diff", "--name-only", "-z", "--no-ext-diff", "stash@{0}^1", "stash@{0}", "--")
    unknown, _ = repo.run("rev-parse", "--verify", "--quiet", "stash@{0}^3", accept=(0, 1))
    if unknown:
        names += repo.lines("ls-tree", "-r", "-z", "--name-only", unknown.decode().strip(), "--")
    return names


def _stashes(repo: Repository) -> list[tuple[str, str]]:
    if not _references(repo, "refs/stash", "%(objectname)"):
        return []
    records = repo.lines("log", "-g", "-z", "--no-show-signature", "--format=%H %gd: %gs", "refs/stash", "--")
    return [(record[:40], output.cut_line(record[41:])) for record in records]


class Tag(msgspec.Struct, frozen=True):
    """Describes one tag."""

    name: str
    sha: str


class TagArgs(Args, frozen=True):
    """Names the tag to create, with a message an annotated one; without a name, tags are listed."""

    repo: PathArg = "."
    name: Name | None = None
    revision: Name | None = None
    message: Message | None = None


class TagResult(Result, frozen=True):
    """Holds tags, or the one that was created."""

    tags: list[Tag] | UnsetType = UNSET
    created: str | UnsetType = UNSET


GIT_TAG: Final = meta(
    "git_tag",
    TagArgs,
    TagResult,
    risk="W1",
    timeout=30,
    description="List tags, or create one (at HEAD unless told); with a message it is annotated.",
    examples=({}, {"name": "v2", "message": "Two"}),
)


@GIT_TAG.tool
async def git_tag(args: TagArgs) -> TagResult:
    """Create by hash; git refuses a name that is taken."""
    with repository.opened(args.repo) as repo:
        if args.name is None:
            listed = (
                Tag(name, sha)
                for name, sha in _references(repo, "refs/tags", "%(refname:short)", "%(objectname)")
            )
            return TagResult(tags=output.cut_items(listed, 2000)[0])
        name, commit = repository.reference(args.name, "tag"), repo.commit(args.revision or "HEAD")
        annotated = ["-a", "-F", "-"] if args.message else []
        repo.run("tag", "--no-sign", *annotated, name, commit, text=args.message, changes=True)
        CONTEXT.get().note_effect(repo.place(f"refs/tags/{name}"), None, commit)
    return TagResult(created=name)


TOOLS: Final = (GIT_BRANCH, GIT_CHECKOUT, GIT_COMMIT, GIT_STASH, GIT_TAG)
