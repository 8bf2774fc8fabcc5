"""Tables that confine subsystems: what keeps the daemon from starting, and what has no effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from epad.configuration.confine_schema import ConfineConfig
from epad.configuration.load import ConfigError, load
from epad.configuration.vain_values import vain_check


def configured(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "epad.toml"
    path.write_text(text)
    return path


A = '[subsystems.a]\ncommand = ["x"]\n[subsystems.a.confine]\n'


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ('[subsystems.a]\nkind = "client"\n[subsystems.a.confine]\n', "confine", 'kind = "process"'),
        (
            '[subsystems.a]\nkind = "unit"\nunit = "o.service"\nconfine = {}\n',
            "confine",
            "systemd starts o.service",
        ),
        (A + 'profile = "closed"', "confine.profile", "workspace"),
        (A + 'workspace = "/"', "confine.workspace", "the whole machine"),
        (A + 'workspace = "project"', "confine.workspace", "from the root, or from ~/"),
        (A + 'read = ["../models"]', "confine.read", "from the root, or from ~/"),
        (A + 'never = ["/etc"]', "confine.never", "from the workspace"),
        (A + 'never = ["../x"]', "confine.never", "from the workspace"),
        (A + 'hosts = ["https://x.org"]', "confine.hosts", "matches nothing"),
        (A + 'hosts = ["*.org"]', "confine.hosts", "matches nothing"),
        (A + 'hosts = ["x.org", "x.org=10.0.0.5"]', "confine.hosts", "take one of them out"),
        (A + 'read = "/srv"', "confine.read", "array"),
        (A + 'hots = ["x.org"]', "confine.hots", "did you mean hosts?"),
        ('[confine]\ndefault = "sealed"', "confine.default", "workspace"),
        ('[subsystems.a]\ncommand = ["x"]\nconfine = "workspace"', "confine", "this is a table"),
    ],
)
def test_a_fault_is_named_with_its_place_and_its_cure(tmp_path: Path, text: str, key: str, said: str) -> None:
    """Before the daemon starts."""
    with pytest.raises(ConfigError) as caught:
        load(configured(tmp_path, text))
    [problem] = caught.value.problems
    assert problem.key.endswith(key)
    assert said in problem.text


def test_an_empty_table_is_a_workspace(tmp_path: Path) -> None:
    """With all walls; without one it is as the house says."""
    config = load(configured(tmp_path, A))
    assert config.subsystems["a"].confine == ConfineConfig(profile="workspace", require="all")
    assert config.confine.default == "open"


def test_two_files_make_one_table(tmp_path: Path) -> None:
    """Key by key, as every table."""
    more = tmp_path / "more.toml"
    more.write_text('[subsystems.a.confine]\nhosts = ["x.org"]')
    config = load(configured(tmp_path, A + 'workspace = "/srv/a"'), more)
    assert config.subsystems["a"].confine == ConfineConfig(workspace="/srv/a", hosts=("x.org",))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('profile = "open"\nhosts = ["x.org"]', "hosts"),
        ('profile = "open"\nrequire = "best"', "require"),
        ('profile = "sealed"\nask = true', "ask"),
        ('profile = "gateway-only"\nread = ["/srv"]', "read"),
    ],
)
def test_a_key_that_its_profile_has_no_use_for_is_named(tmp_path: Path, text: str, key: str) -> None:
    """Nothing is wrong with it, but that its writer believes in something else."""
    found = [(one.key[-1], one.text) for one in vain_check(load(configured(tmp_path, A + text)))]
    assert [where for where, _ in found] == [key]
