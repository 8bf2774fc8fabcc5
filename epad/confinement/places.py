"""The places of a machine that every policy speaks of: the system's own, the cell's own, and those never to be had.

Files that a program needs to run are readable. Files that are run outside the cell when a person opens a project or a
shell are not writable. Keys and sessions are not readable.
"""

from __future__ import annotations

from typing import Final

SYSTEM: Final = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store"),
    *("/gnu/store", "/sys/devices/system/cpu", "/sys/devices/system/node"),
    "/sys/kernel/mm/transparent_hugepage",
)
"""Programs and libraries, and the number of CPUs."""

SYSTEM_SETTINGS: Final = tuple(
    f"/etc/{name}"
    for name in (
        *(
            "alternatives",
            "bash.bashrc",
            "ca-certificates",
            "chromium",
            "chromium.d",
            "crypto-policies",
            "debian_version",
        ),
        *("default/locale", "environment", "fonts", "gai.conf", "gitconfig", "group", "host.conf"),
        *("hostname", "hosts", "inputrc", "java-11-openjdk", "java-17-openjdk", "java-21-openjdk"),
        *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "locale.conf", "localtime"),
        *("login.defs", "magic", "mailcap", "mime.types", "nsswitch.conf", "OpenCL", "os-release"),
        *("passwd", "pki/ca-trust", "pki/tls/certs", "profile", "profile.d", "protocols", "python3"),
        *("resolv.conf", "services", "shells", "skel", "ssl/certs", "ssl/openssl.cnf", "terminfo"),
        *("timezone", "vulkan", "xdg", "zsh"),
    )
)
"""A list, since /etc has keys too: ssl/private, ssh, sudoers, and what a machine's owner has put there."""

GPU: Final = ("/sys/bus/pci", "/sys/class/drm", "/sys/class/kfd", "/sys/devices", "/sys/module")
"""Where the drivers' libraries look for the cards; the device nodes are the cell's matter."""

OWN: Final = ("/dev", "/dev/shm", "/proc", "/tmp", "/var/tmp")  # noqa: S108 - named, not used
"""New in each cell, and gone with it: nothing of the machine's is seen there."""

SOCKETS: Final = ("/run", "/var/run")
"""Where a machine's services listen: docker.sock, D-Bus, systemd."""

PROTECTED: Final = (
    *(".git/config", ".git/hooks/", ".git/info/attributes", ".git/modules/", ".githooks/", ".gitmodules"),
    *(".husky/", ".claude/", ".cursor/", ".devcontainer/", ".envrc", ".idea/", ".mcp.json", ".vscode/"),
    *(".zed/", ".bash_login", ".bash_logout", ".bash_profile", ".bashrc", ".gitconfig", ".profile"),
    *(".zlogin", ".zprofile", ".zshenv", ".zshrc"),
)
"""In a workspace: what git, a shell, direnv or an editor runs, or obeys, when a person comes there.

A `/` at the end is a directory's, for whoever has to make it. CLAUDE.md and AGENTS.md are not among them: agents write
them as a part of their work, and what they say is read by models, which are confined too. `never` names them where that
is not wanted.
"""

PROTECTED_AT_HOME: Final = (
    *(".config/autostart/", ".config/environment.d/", ".config/fish/", ".config/git/", ".config/systemd/"),
    *(".config/zsh/", ".local/bin/", ".local/share/applications/", ".local/share/dbus-1/"),
    *(".local/share/systemd/", ".pam_environment", ".xinitrc", ".xprofile", ".xsession", ".xsessionrc"),
    *(
        ".bash_aliases",
        ".cshrc",
        ".kshrc",
        ".login",
        ".tcshrc",
        ".zlogout",
        ".gdbinit",
        ".lldbinit",
        ".pdbrc",
    ),
    *(".screenrc", ".tmux.conf"),
)
"""The same in a home directory. Not .vimrc, .inputrc and .emacs: their empty placeholders would change what a person's
own programs do."""

SECRETS: Final = (
    *(".ssh", ".aws", ".azure", ".gnupg", ".kube", ".docker", ".netrc", ".git-credentials", ".pypirc"),
    *(".npmrc", ".pgpass", ".my.cnf", ".password-store", ".vault-token", ".cargo/credentials"),
    *(".cargo/credentials.toml", ".bash_history", ".zsh_history", ".python_history"),
    *(".local/share/fish", ".local/share/keyrings", ".pki", ".config/gcloud", ".config/gh"),
    *(".config/hub", ".config/op", ".config/rclone", ".config/sops", ".terraform.d", ".mozilla"),
    *(".thunderbird", ".config/BraveSoftware", ".config/chromium", ".config/google-chrome"),
    *(".config/microsoft-edge", ".config/vivaldi", "snap/chromium", "snap/firefox", ".var/app"),
    ".config/epad",
)
"""In a home directory: keys, sessions and what was typed. Never readable, even where a policy names the home."""

MACHINE_SECRETS: Final = (
    "/etc/epad",
    "/etc/ssh",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/sudoers",
    "/etc/ssl/private",
)
"""The same of the machine."""


def placeholder(path: str) -> str:
    """Return a protected path as a cell's plan has it: with a `/` at its end where a directory is to be made."""
    folders = (name for name in (*PROTECTED, *PROTECTED_AT_HOME) if name.endswith("/"))
    return f"{path}/" if any(f"{path}/".endswith(f"/{name}") for name in folders) else path
