"""List every operation of the daemon, each a row that everything else reads.

The gate, the routes of the control API, its OpenAPI document, the commands of `epactl` with their help, completion and
manual page, and the table in docs/operations.md are made from these rows. An operation takes a row here and a method of
its name in `epad/operations/implementation.py`. Its answer is a type in `epad/answers/`, an order's body one in
`epad/operations/bodies.py`; a row has their names, since importing them here would slow the start of `epactl`: this
module imports the standard library only, and little of it.
"""

from __future__ import annotations

from enum import StrEnum

from epad.gate.risk import Risk

MAX_REASON_CHARACTERS = 500
"""The reason that every order must give has this many at most."""

_SUBSYSTEM = "/v1/subsystems/{name}"
_NAMED = {
    "subsystems": "subsystem",
    "datastores": "datastore",
    "budgets": "subsystem, group:NAME, or all",
    "approvals": "question's number",
    "servers": "foreign server",
    "undo": "turn or session",
    "secrets": "secret",
    "approved-hosts": "host, or its question's number",
}

_FIELDS = ("risk", "path", "command", "words", "answer", "body", "query")

Row = tuple[str, Risk, str, str, str, str, str, tuple[str, ...]]


def _read(
    name: str, path: str, command: str, words: str, answer: str, *query: str, risk: Risk = Risk.READ
) -> Row:
    return name, risk, path, command, words, answer, "", query


def _order(
    name: str, path: str, command: str, words: str, body: str = "OrderBody", answer: str = "Result"
) -> Row:
    return name, Risk.ORDER, path, command, words, answer, body, ()


def _owned(
    name: str, path: str, command: str, words: str, body: str = "OrderBody", answer: str = "Result"
) -> Row:
    """Return the row of an order that takes an owner."""
    return name, Risk.OWNED, path, command, words, answer, body, ()


class Operation(StrEnum):
    """Lists a row for each operation: its name, risk, path in the API, command of `epactl`, and words."""

    risk: Risk
    path: str
    """In the control API; empty if it is not asked there."""
    command: str
    """The words behind `epactl`; empty if it has no command."""
    words: str
    """What it does, in one sentence."""
    answer: str
    """The type of its answer, in `epad/answers/`; of one line of it, if `is_stream`."""
    body: str
    """The type of an order's body, in `epad/operations/bodies.py`; empty if it takes none."""
    query: tuple[str, ...]
    """The names of what may be asked for in its query."""

    # A row has two lines or three.
    # fmt: off
    STATUS_READ = _read(
        "status_read", "/v1/status", "status", "Show the phase, the subsystems and what is wrong.", "Status",
    )
    PHASE_READ = _read("phase_read", "/v1/phase", "phase", "Show the phase and how it came about.", "PhaseAnswer")
    EXPLAIN_READ = _read(
        "explain_read", "/v1/explain", "explain", "Show why: from finding to result.", "Explanation", "subject",
    )
    RECOVERY_READ = _read(
        "recovery_read", "/v1/recovery", "recovery", "Show what a recovery does, did, and leaves to you.", "Recovery",
    )
    EVENTS_READ = _read(
        "events_read", "/v1/events", "events", "Show what happened, one event a line.", "Event", "since", "limit",
        "follow",
    )
    LOGS_READ = _read(
        "logs_read", f"{_SUBSYSTEM}/logs", "logs", "Show what a subsystem has printed.", "LogLine", "lines", "after",
        "follow", risk=Risk.CONFIDENTIAL,
    )
    BUDGETS_READ = _read(
        "budgets_read", "/v1/budgets", "budget", "Show what may be spent, is spent and is left, and who set it.",
        "Budgets",
    )
    CONFINE_DIFF_READ = _read(
        "confine_diff_read", "/v1/confine/diff", "confine diff",
        "Show what a reload now would change in policies: what widens, and what narrows.", "PolicyChanges",
    )
    APPROVALS_READ = _read(
        "approvals_read", "/v1/approvals", "approvals",
        "Show which hosts and calls of tools a person is asked about, and the answers.", "Approvals",
    )
    TOOLS_READ = _read(
        "tools_read", "/v1/tools", "tools", "Show the tools, their risk, and who may call them.", "ToolList",
    )
    TOOLS_SERVERS_READ = _read(
        "tools_servers_read",
        "/v1/servers",
        "tools servers",
        "Show the foreign MCP servers, their tools, and which are held.",
        "ServerList",
    )
    TOOLS_DIFF_READ = _read(
        "tools_diff_read",
        "/v1/servers/{name}/diff",
        "tools diff",
        "Show what a foreign server lists otherwise than it was accepted.",
        "ServerDiff",
    )
    TRACE_READ = _read(
        "trace_read", "/v1/trace", "trace",
        "Show a session's turns: models, tools, the gate's decisions, the effects.", "Trace", "subject", "page",
    )
    CHANGES_READ = _read(
        "changes_read", "/v1/changes", "changes list",
        "Show what each subsystem was at its last start, and how that differs from the start before.", "Measurements",
        risk=Risk.CONFIDENTIAL,
    )
    AGENTS_READ = _read(
        "agents_read", "/v1/agents", "agents",
        "Show the living agents that agents have spawned: for whom, why, and what each has left.", "AgentList",
    )
    MEMORY_READ = _read(
        "memory_read", "/v1/memory", "memory list",
        "Show what sessions have stored, what is shared, and what is hidden or lost.", "MemoryList", "session",
        risk=Risk.CONFIDENTIAL,
    )
    MEMORY_VERIFY_READ = _read(
        "memory_verify_read", "/v1/memory/verify", "memory verify",
        "Check that each row that tools have stored is as it was appended.", "MemoryProof", risk=Risk.CONFIDENTIAL,
    )
    VAULT_READ = _read(
        "vault_read", "/v1/vault", "vault list",
        "Show the documents of the knowledge vault, and what the newest look at it has found.", "VaultList",
        risk=Risk.CONFIDENTIAL,
    )
    VAULT_SHOW_READ = _read(
        "vault_show_read", "/v1/vault/show", "vault show", "Print a document of the vault, or one of its versions.",
        "DocumentPiece", "document", "version", "offset", risk=Risk.CONFIDENTIAL,
    )
    VAULT_HISTORY_READ = _read(
        "vault_history_read", "/v1/vault/history", "vault history", "Show every change of a document of the vault.",
        "DocumentHistory", "document", risk=Risk.CONFIDENTIAL,
    )
    VAULT_VERIFY_READ = _read(
        "vault_verify_read", "/v1/vault/verify", "vault verify",
        "Read all of the vault now, and tell what was changed around epad.", "VaultProof", risk=Risk.CONFIDENTIAL,
    )
    UNDO_PLAN_READ = _read(
        "undo_plan_read", "/v1/undo/{name}", "", "Tell what an undo would put back, and what it would leave.",
        "UndonePlan", risk=Risk.CONFIDENTIAL,
    )
    SECRETS_READ = _read(
        "secrets_read", "/v1/secrets", "secret list",
        "Show the secrets in the vault, never a value: what seals them, whom they are for, their last use.",
        "SecretList", risk=Risk.CONFIDENTIAL,
    )
    API_READ = _read("api_read", "/v1/openapi.json", "", "Describe this API as an OpenAPI document.", "Document")
    QUARANTINE = _order(
        "quarantine", f"{_SUBSYSTEM}/quarantine", "quarantine",
        "Hold a subsystem, a category of tools or a tool until it is released.",
    )
    RELEASE = _order(
        "release", f"{_SUBSYSTEM}/release", "release", "Let a held or stopped subsystem, or a held tool, go.",
    )
    PAUSE = _order(
        "pause", f"{_SUBSYSTEM}/pause", "pause", "Freeze a subsystem until `resume`; the phase does not change.",
    )
    RESUME = _order("resume", f"{_SUBSYSTEM}/resume", "resume", "End a pause.")
    RESTART = _order("restart", f"{_SUBSYSTEM}/restart", "restart", "Stop a subsystem and start it again.")
    STOP = _order("stop", f"{_SUBSYSTEM}/stop", "stop", "Stop a subsystem until it is released.")
    UPGRADE = _owned(
        "upgrade", "/v1/upgrade", "upgrade", "Replace the daemon by what is installed now; subsystems run on.",
    )
    RELOAD = _owned(
        "reload", "/v1/reload", "reload",
        "Read the configuration again and apply its changes; what widens a policy needs --reason.", "ReloadOrder",
    )
    ROTATE_KEY = _owned("rotate_key", f"{_SUBSYSTEM}/key/rotate", "key rotate", "Give a subsystem a new gateway key.")
    REVOKE_KEY = _owned(
        "revoke_key", f"{_SUBSYSTEM}/key/revoke", "key revoke", "Make a subsystem's gateway keys worthless.",
    )
    SET_BUDGET = _order(
        "set_budget", "/v1/budgets/{name}", "budget set", "Change limits while everything runs.", "BudgetOrder",
    )
    FORCE_PHASE = _order("force_phase", "/v1/phase", "phase --force", "Enter a phase without waiting.", "PhaseOrder")
    LIFEBOAT = _order("lifeboat", "/v1/lifeboat", "lifeboat enter", "Save what is critical and stop everything.")
    RELAUNCH = _order("relaunch", "/v1/relaunch", "lifeboat relaunch", "Start everything again.")
    CHECKPOINT = _order("checkpoint", "/v1/checkpoint", "checkpoint create", "Make a checkpoint now.")
    ACCEPT_DATASTORE = _owned(
        "accept_datastore", "/v1/datastores/{name}/accept", "datastore accept",
        "Accept a datastore's present contents as the new baseline.",
    )
    ACCEPT_CHANGE = _owned(
        "accept_change", f"{_SUBSYSTEM}/accept-change", "changes accept",
        "Take a subsystem that has changed for what it is to be, and start it.",
    )
    ACCEPT_LOSS = _owned(
        "accept_loss", "/v1/ledger/accept-loss", "ledger accept-loss",
        "Give up records that are gone; every budget counts as spent.",
    )
    APPROVE = _order(
        "approve", "/v1/approvals/{name}/approve", "approve",
        "Let a subsystem reach the host, or call the tool, that it asks for.", "ApprovalOrder",
    )
    DENY = _order(
        "deny", "/v1/approvals/{name}/deny", "deny",
        "Refuse a subsystem the host or the call that it asks for, for an hour.",
    )
    REVOKE_HOST = _order(
        "revoke_host", "/v1/approved-hosts/{name}/revoke", "approvals revoke",
        "Take an approval of a host or a tool back; what is open to that host is cut.", "RevocationOrder",
    )
    UNDO = _order(
        "undo", "/v1/undo/{name}", "undo", "Put back the files that a tool's turn, or a session, has changed.",
    )
    ACCEPT_TOOLS = _owned(
        "accept_tools",
        "/v1/servers/{name}/accept",
        "tools accept",
        "Accept the tools of a foreign server as it lists them now.",
        "AcceptToolsOrder",
    )
    LEARN = _owned(
        "learn", f"{_SUBSYSTEM}/learn", "confine learn",
        "Record a subsystem without walls, and print the smallest policy that it needs.", "LearnOrder",
    )
    PROMOTE_MEMORY = _order(
        "promote_memory", "/v1/memory/promote", "memory promote",
        "Share what a session has stored with later sessions that may read it.", "MemoryOrder",
    )
    RETRACT_MEMORY = _order(
        "retract_memory", "/v1/memory/retract", "memory retract", "Hide a shared text, or all rows of a session.",
        "MemoryOrder",
    )
    SET_SECRET = _owned(
        "set_secret", "/v1/secrets/{name}", "secret set",
        "Keep a secret in the vault, sealed; its value comes by standard input.", "SecretOrder",
    )
    ROTATE_SECRET = _owned(
        "rotate_secret", "/v1/secrets/{name}/rotate", "secret rotate",
        "Give a secret a new value, which is in use at once.", "RotationOrder",
    )
    BIND_SECRET = _owned(
        "bind_secret", "/v1/secrets/{name}/bind", "secret bind", "Say anew who may use a secret, or where it may go.",
        "BindingOrder",
    )
    TEST_SECRET = _order(
        "test_secret", "/v1/secrets/{name}/test", "secret test",
        "Open a secret, show nothing of it, and say what sealed it.",
    )
    EXPORT_SECRET = _owned(
        "export_secret", "/v1/secrets/{name}/export", "secret export",
        "Write a secret's value to a file that you alone may read, or encrypted to an age recipient.", "ExportOrder",
        "ExportedSecret",
    )
    REMOVE_SECRET = _owned(
        "remove_secret", "/v1/secrets/{name}/remove", "secret remove", "Delete a secret from the vault.",
    )
    UNLOCK_SECRETS = _owned(
        "unlock_secrets", "/v1/unlock-secrets", "secret unlock",
        "Unlock the vault's own key by a passphrase or a security key, or make it.", "UnlockOrder",
    )
    IDENTITY_READ = _read(
        "identity_read", "/v1/identity", "identity list",
        "Show the SPIFFE identities that were issued in the last 24 hours.", "IdentityList",
    )
    IDENTITY_BUNDLE_READ = _read(
        "identity_bundle_read", "/v1/identity/bundle", "identity bundle",
        "Show the trust bundle, by which others verify the identities.", "IdentityBundle",
    )
    ROTATE_IDENTITY = _owned(
        "rotate_identity", "/v1/identity/rotate", "identity rotate",
        "Have a new authority sign identities from now on.",
    )
    ADD_DOCUMENT = _order(
        "add_document", "/v1/vault/add", "vault add", "Add a document to the vault, or a new version of one.",
        "DocumentOrder",
    )
    RETRACT_DOCUMENT = _order(
        "retract_document", "/v1/vault/retract", "vault retract",
        "Put a tombstone on a document of the vault; its versions are kept.", "VaultOrder",
    )
    UNDO_DOCUMENT = _order(
        "undo_document", "/v1/vault/undo", "vault undo",
        "Take back the newest change of a document of the vault, to the byte.", "VaultOrder",
    )
    MODEL_CALL = ("model_call", Risk.CHARGED, "", "", "Call a model through the gateway.", "", "", ())
    # fmt: on

    def __new__(cls, name: str, *row: object) -> Operation:  # noqa: PYI034 - Self is of typing, which is slow to load
        operation = str.__new__(cls, name)
        operation._value_ = name
        operation.__dict__.update(zip(_FIELDS, row, strict=True))
        return operation

    def __setattr__(self, name: str, value: object) -> None:
        if "_sort_order_" in self.__dict__:  # the last thing that an enum says of a member when it makes it
            raise AttributeError(f"the row of {self} cannot be changed")
        super().__setattr__(name, value)

    @property
    def is_order(self) -> bool:
        """Tell if it changes something, so that it takes a reason."""
        return self.risk in {Risk.ORDER, Risk.OWNED}

    @property
    def is_stream(self) -> bool:
        """Tell if it answers with lines, each of the answer's type."""
        return "follow" in self.query

    @property
    def method(self) -> str:
        """Return its HTTP method."""
        return "POST" if self.is_order else "GET"

    @property
    def about(self) -> str:
        """Return the kind of thing that the name in its path names; empty if it has none."""
        return _NAMED[self.path.split("/")[2]] if "{name}" in self.path else ""

    def target(self, name: str = "") -> str:
        """Return its path, with a name as it may stand in a URL."""
        return self.path.replace("{name}", name)
