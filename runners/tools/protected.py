"""Tell the names that tools never write, and those they never read.

A file that is run or obeyed when a person comes to a directory (hooks, shell rc files, unit files) turns the right to
write into the right to run: so it is not written. Keys and sessions are not read. The lists agree with
`epad/confinement/places.py`; a test compares them, since nothing here imports epad.
"""

from __future__ import annotations

from typing import Final

NEVER_WRITTEN: Final = frozenset(
    (
        *(".git", ".githooks", ".gitmodules", ".gitconfig", ".husky", ".claude", ".cursor"),
        *(
            ".devcontainer",
            ".envrc",
            ".env",
            ".idea",
            ".mcp.json",
            ".vscode",
            ".zed",
            ".ssh",
            ".gnupg",
            ".epad",
        ),
        *(".bash_aliases", ".bash_login", ".bash_logout", ".bash_profile", ".bashrc", ".profile", ".zlogin"),
        *(".cshrc", ".kshrc", ".lldbinit", ".login", ".tcshrc", ".tmux.conf", ".screenrc", ".zlogout"),
        *(".zprofile", ".zshenv", ".zshrc", ".pam_environment", ".xinitrc", ".xprofile", ".xsession"),
        *(".xsessionrc", ".inputrc", ".gdbinit", ".pdbrc", ".vimrc", ".exrc", ".emacs", ".npmrc"),
    )
)
"""Names of a file or directory, wherever it is in a path."""

NEVER_WRITTEN_BELOW: Final = (
    *(".config/autostart", ".config/environment.d", ".config/fish", ".config/git", ".config/systemd"),
    *(".config/zsh", ".config/epad", ".local/bin", ".local/share/applications", ".local/share/dbus-1"),
    *(".config/plasma-workspace/env", ".config/user-dirs.dirs", ".local/lib", ".local/share/systemd"),
    *(".local/share/epad", ".local/state/epad", "systemd/system", "systemd/user"),
)
"""Paths of which no part is written, wherever they are in a path."""

NEVER_READ: Final = (
    *(".ssh", ".aws", ".azure", ".gnupg", ".kube", ".docker", ".netrc", ".git-credentials", ".pypirc"),
    *(".npmrc", ".pgpass", ".my.cnf", ".password-store", ".vault-token", ".cargo/credentials"),
    *(".cargo/credentials.toml", ".bash_history", ".zsh_history", ".python_history"),
    *(".local/share/fish", ".local/share/keyrings", ".pki", ".config/gcloud", ".config/gh"),
    *(".config/hub", ".config/op", ".config/rclone", ".config/sops", ".terraform.d", ".mozilla"),
    *(".thunderbird", ".config/BraveSoftware", ".config/chromium", ".config/google-chrome"),
    *(".config/microsoft-edge", ".config/vivaldi", "snap/chromium", "snap/firefox", ".var/app"),
    ".config/epad",
)


def never_written(path: str) -> bool:
    """Tell if a path below the workspace is one that tools do not write, by the names in it."""
    parts = _parts(path)
    named = any(part in NEVER_WRITTEN or part.startswith(".env.") for part in parts)
    return named or _holds(parts, NEVER_WRITTEN_BELOW) or never_read(path)


def never_read(path: str) -> bool:
    """Tell if a path below the workspace is one that tools do not read."""
    return _holds(_parts(path), NEVER_READ)


def leads_to_protected(path: str) -> bool:
    """Tell if a protected path may begin with this one: a link there would give what it leads to a protected name."""
    whole = f"/{'/'.join(_parts(path))}"
    return any(
        whole.endswith(f"/{'/'.join(parts[:at])}")
        for parts in ([*each.casefold().split("/")] for each in (*NEVER_WRITTEN_BELOW, *NEVER_READ))
        for at in range(1, len(parts))
    )


def _parts(path: str) -> list[str]:
    # Without case: the workspace may lie on a file system that does not tell cases apart.
    return [part for part in path.casefold().split("/") if part not in {"", "."}]


def _holds(parts: list[str], paths: tuple[str, ...]) -> bool:
    whole = f"/{'/'.join(parts)}/"
    return any(f"/{path.casefold()}/" in whole for path in paths)
