"""Reading the configuration: what wins, what is wrong, and where."""

from __future__ import annotations

import os
import tomllib
from importlib import resources
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.configuration import load as load_module
from epad.configuration.load import MAX_FILE_BYTES, ConfigError, find, load, read, usual_file
from epad.configuration.schema import Config, UpstreamConfig
from statemachine.assessor import Hysteresis


def problems(tmp_path: Path, text: str | bytes) -> list[str]:
    """The messages for one file, without the directory."""
    path = tmp_path / "epad.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == "\n".join(str(problem) for problem in caught.value.problems)
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in caught.value.problems]


def accepted(tmp_path: Path, text: str) -> Config:
    """The configuration of one file that must be right."""
    (tmp_path / "epad.toml").write_text(text)
    return load(tmp_path / "epad.toml")


def test_the_shipped_defaults_are_a_whole_configuration() -> None:
    """With no file at all there is a configuration, and it is the shipped file word for word."""
    shipped = tomllib.loads((resources.files("epad") / "default.toml").read_text())
    assert load() == msgspec.convert(shipped, Config)
    assert load().upstreams == {}


def test_later_layers_win_key_by_key(tmp_path: Path) -> None:
    """A drop-in changes one key and leaves its neighbours, the defaults' and the file's, alone."""
    main, drop_in = tmp_path / "epad.toml", tmp_path / "extra.toml"
    main.write_text("[gateway]\nidle_seconds = 5\nmax_in_flight = 9\n[subsystems.chat]\ncommand = ['a']\n")
    drop_in.write_text("[gateway]\nidle_seconds = 7.5\n[subsystems.chat.budget]\ntokens_per_hour = 3\n")
    config = load(main, drop_in)
    assert config.gateway.idle_seconds == 7.5
    assert config.gateway.max_in_flight == 9
    assert config.gateway.connect_seconds == load().gateway.connect_seconds
    assert config.subsystems["chat"].command == ("a",)
    assert config.subsystems["chat"].budget.tokens_per_hour == 3
    assert load(main, drop_in) == config


def test_the_place_that_set_each_key_is_known(tmp_path: Path) -> None:
    """`epad check --show` can say who said so: the last layer that did, or nobody."""
    main, drop_in = tmp_path / "epad.toml", tmp_path / "extra.toml"
    main.write_text("\n[gateway]\nidle_seconds = 5\n[upstreams.a]\nurl = 'http://x'\ndialects = ['openai']\n")
    drop_in.write_text("gateway.idle_seconds = 6\n")
    loaded = read([main, drop_in])
    assert loaded.files == (main, drop_in)
    assert str(loaded.origin("gateway.idle_seconds")) == f"{drop_in}:1"
    assert str(loaded.origin("upstreams.a.url")) == f"{main}:5"
    assert str(loaded.origin("gateway.listen")).startswith(str(resources.files("epad") / "default.toml:"))
    assert loaded.origin("upstreams.a.context_tokens") is None


def test_the_files_are_the_chosen_one_and_its_drop_ins_by_name(tmp_path: Path) -> None:
    """Sorted, *.toml only, no hidden files; a chosen file is read even if it is not there, and so reported."""
    main = tmp_path / "my.toml"
    drop_ins = tmp_path / "my.toml.d"
    assert find(main) == [main]
    drop_ins.mkdir()
    for name in ("20-b.toml", "10-a.toml", "readme", ".hidden.toml", "10-a.toml~"):
        (drop_ins / name).write_text("")
    assert find(main) == [main, drop_ins / "10-a.toml", drop_ins / "20-b.toml"]


@pytest.mark.parametrize(
    ("system", "user", "own"),
    [
        ("open", 0, False),
        ("open", 1000, False),
        ("closed", 1000, True),
        ("missing", 0, False),
        ("missing", 1000, True),
    ],
)
def test_a_user_without_the_system_file_has_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, user: int, own: bool
) -> None:
    """One that is closed is another daemon's; where there is none, only root could write it."""
    directory = tmp_path / "etc"
    if system != "missing":
        directory.mkdir()
    monkeypatch.setattr(load_module, "SYSTEM_FILE", directory / "epad.toml")
    monkeypatch.setattr(os, "access", lambda path, mode: system != "closed")
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert usual_file() == (tmp_path / "config/epad/epad.toml" if own else directory / "epad.toml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_drop_ins_that_cannot_be_listed_are_an_error(tmp_path: Path) -> None:
    """A budget in a directory we may not read must not be lost without a word."""
    (tmp_path / "epad.toml.d").mkdir(mode=0)
    with pytest.raises(ConfigError, match="cannot be listed"):
        find(tmp_path / "epad.toml")


def test_a_hysteresis_table_inherits_what_it_leaves_out(tmp_path: Path) -> None:
    """From hysteresis.default as the layers have made it, for a probe the defaults do not name."""
    config = accepted(
        tmp_path, "[hysteresis.default]\nclear_after_seconds = 7\n[hysteresis.vram]\nout_of = 4\n"
    )
    default = config.hysteresis["default"]
    assert default.clear_after_seconds == 7.0
    assert config.hysteresis["vram"] == Hysteresis(
        raise_after=default.raise_after,
        out_of=4,
        clear_after_seconds=7.0,
        flap_window_seconds=default.flap_window_seconds,
        flap_hold_max_seconds=default.flap_hold_max_seconds,
    )
    assert config.hysteresis["cascade"].clear_after_seconds == 60.0


def test_every_error_is_reported_at_once_in_order(tmp_path: Path) -> None:
    """One run of `epad check` shows all there is to correct, with line, key, what is wrong and what to do."""
    text = """\
[gateway]
max_in_flght = 3
max_body_bytes = 0
idle_seconds = "long"
listen = "127.0.0.1:99999"
[daemon]
log_level = "loud"
[subsystems.one]
depends_on = ["two", "thre"]
command = "ls"
[upstreams.up]
url = "ftp://x"
"""
    assert problems(tmp_path, text) == [
        "epad.toml:2: gateway.max_in_flght: is not a known key; did you mean max_in_flight?",
        "epad.toml:3: gateway.max_body_bytes: is 0; give a whole number of at least 1",
        'epad.toml:4: gateway.idle_seconds: is "long"; give a number above 0',
        "epad.toml:5: gateway.listen: names port 99999; give one from 0 to 65535",
        'epad.toml:7: daemon.log_level: is "loud"; give one of "debug", "error", "info", "warning"',
        "epad.toml:9: subsystems.one.depends_on: names thre, which is not a subsystem; there are: one",
        "epad.toml:9: subsystems.one.depends_on: names two, which is not a subsystem; there are: one",
        'epad.toml:10: subsystems.one.command: is "ls"; give an array of 0 or more, each text in quotes',
        (
            "epad.toml:11: upstreams.up.dialects: is missing; give an array of 1 or more, "
            'each one of "anthropic", "ollama", "openai"'
        ),
        'epad.toml:12: upstreams.up.url: is "ftp://x"; give a URL that begins with "http://", "https://" or "unix:/"',
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense = 1", "1: nonsense: is not a known key; known here: daemon,"),
        ("gateway = 3", "1: gateway: is 3; this is a table: write [gateway]"),
        ("[gateway.listen]\nx = 1", '1: gateway.listen: is a table; give an address "host:port"'),
        ("[gateway]\nlisten = 'here'", '2: gateway.listen: is "here"; give an address'),
        ("[metrics]\nlisten = 'here'", '2: metrics.listen: is "here"; give an address'),
        ("[metrics]\nlisten = '0.0.0.0:8700'", "2: metrics.listen: is 0.0.0.0:8700, which gateway.listen has"),
        ("[gateway]\nlisten = '127.0.0.1:8701'", "2: metrics.listen: is 127.0.0.1:8701, which gateway"),
        ("[hysteresis.vram]\nout_of = 101", "2: hysteresis.vram.out_of: is 101; give a whole number from 1 to 100"),
        (
            "[probes.vram]\ninterval_seconds = 90",
            "hysteresis.default.clear_after_seconds: is 60: it must be above probes.vram.interval_seconds, 90",
        ),
        (
            "[hysteresis.liveness]\nclear_after_seconds = 1",
            "2: hysteresis.liveness.clear_after_seconds: is 1: it must be above probes.liveness.interval_seconds, 2",
        ),
        ("[gateway]\nidle_seconds = inf", "2: gateway.idle_seconds: is inf; give a finite number"),
        ("[gateway]\nidle_seconds = nan", "2: gateway.idle_seconds: is NaN"),
        ("[gateway]\nidle_seconds = true", "2: gateway.idle_seconds: is true; give a number above 0"),
        ("[gateway]\nmax_in_flight = 1.5", "2: gateway.max_in_flight: is 1.5; give a whole number"),
        ("[gateway]\nmax_in_flight = 2026-01-01", '2: gateway.max_in_flight: is "2026-01-01"; give a whole'),
        ("[gateway]\ndefault_output_tokens = 20000", "2: gateway.default_output_tokens: is 20000, above max"),
        (
            "[subsystems.a]\ncommand = ['x']\ngateway = 'no'",
            '3: subsystems.a.gateway: is "no"; give true or false',
        ),
        ("[ledger]\npayloads = 'some'", '2: ledger.payloads: is "some"; give one of'),
        ("[probes.vram]\nwarn_ratio = 1.5", "2: probes.vram.warn_ratio: is 1.5; give a number above 0 and at most 1"),
        ("[probes.vram]\nlimit_ratio = 0.5", "2: probes.vram.warn_ratio: is 0.9, and must be at most limit_"),
        ("[hysteresis.vran]\nout_of = 9", "1: hysteresis.vran: names no probe; did you mean vram?"),
        ("[hysteresis.vram]\nraise_after = 9", "2: hysteresis.vram.raise_after: is 9, above out_of, which is 3"),
        ("[hysteresis.default]\nout_of = 1", "2: hysteresis.default.raise_after: is 2, above out_of"),
        ("[containment]\ndefault = 'stop'", "2: containment.default: names no probe"),
        ("[containment]\nvram = 'melt'", '2: containment.vram: is "melt"; give one of'),
        ("[schedule]\ncheckpoint = 'soon'", '2: schedule.checkpoint: is "soon": Wrong number of fields'),
        ("[schedule]\ncheckpoint = '99 * * * *'", '2: schedule.checkpoint: is "99 * * * *"'),
        ("[subsystems.a]", "1: subsystems.a.command: is missing; give the program"),
        ("[subsystems.a]\nkind = 'unit'", "subsystems.a.unit: is missing; give it, such as ollama.service"),
        (
            "[subsystems.a]\nkind = 'unit'\nunit = 'ollama'",
            "3: subsystems.a.unit: is 'ollama'; give a service as systemctl names it",
        ),
        (
            "[subsystems.a]\nkind = 'unit'\nunit = 'epad.service'",
            "3: subsystems.a.unit: is epad.service, which epad itself needs",
        ),
        (
            "[subsystems.a]\ncommand = ['x']\nunit = 'ollama.service'",
            '3: subsystems.a.unit: is set, but only kind = "unit" has one',
        ),
        ("[subsystems.a]\nkind = 'client'\ncommand = ['x']", "3: subsystems.a.command: is set, but a client"),
        ("[subsystems.a]\ncommand = ['x', 3]", "2: subsystems.a.command: holds 3; each must be text in quotes"),
        ("[subsystems.a]\ncommand = ['x']\nenvironment = {A = 1}", "3: subsystems.a.environment.A: is 1; give text"),
        ("[subsystems.'A b']", '1: subsystems."A b": "A b" is not a name of a-z'),
        ("[subsystems.a]\ncommand=['x']\nrestart.backoff_seconds = 90", "3: subsystems.a.restart.backoff_seconds: is"),
        (
            "[subsystems.a]\nkind='client'\ndepends_on=['b']\n[subsystems.b]\nkind='client'\ndepends_on=['a']",
            "subsystems.a.depends_on: is a circle: a needs b needs a",
        ),
        ("[subsystems.a]\nkind='client'\ndepends_on=['a']", "3: subsystems.a.depends_on: is a circle: a needs a"),
        (
            "[upstreams.u]\nurl='http://x'\ndialects=[]",
            "3: upstreams.u.dialects: is []; give an array of 1 or more",
        ),
        ("[upstreams.u]\nurl='http://x'\ndialects=['openai']\ncontext_tokens=64", "4: upstreams.u.context_tokens: is"),
        ("[upstreams.u]\nurl='http://x'\ndialects=['openai']\napi_key_file='key'", "a relative path"),
        ("[upstreams.u]\nurl='http://x'\ndialects=['openai']\napi_key_file='/nope/k'", "which is not there"),
        ("[tools]\nenabled=true\n[subsystems.tools-git]\nkind='client'",
         "3: subsystems.tools-git: may not be called tools-git while [tools] is enabled"),
        ("[upstreams.u]\nurl='http://x'\ndialects=['openai']\nserved_by='vlm'\n[subsystems.vllm]\nkind='client'",
         "4: upstreams.u.served_by: names vlm, which is not a subsystem; did you mean vllm?"),
        ("[upstreams.u]\nurl='http://x'\ndialects=['openai']\nserver='lamma.cpp'",
         "4: upstreams.u.server: is lamma.cpp, which is no kind of server that epad knows; give one of anthropic, "),
        ("[upstreams.u]\nurl='http://x'\ndialects=['openai']\nfields='x'", "4: upstreams.u.fields: "),
        ("[gateway]\nunknown_fields = 'allow'", "2: gateway.unknown_fields: "),
        ("[probes.cascade]\nbad_looks = 4", "2: probes.cascade.bad_looks: is 4, and must be at most of_looks (3)"),
        ("[probes.cascade]\ncrashes = 1000", "2: probes.cascade.crashes: is 1000; give a whole number from 1 to"),
        ("[probes.cascade]\nwindow_seconds = 2", "2: probes.cascade.settle_seconds: is 3, and must be below"),
        ("[probes.cascade]\nburst_seconds = 2", "2: probes.cascade.settle_seconds: is 3, and must be below"),
        ("[probes.memory]\ngrowth_window_seconds = 5", "2: probes.memory.growth_window_seconds: is 5, and must be at"),
        ("[subsystems.a]\ncommand=['x']\nmemory_max='4gib'",
         '3: subsystems.a.memory_max: is "4gib"; give a whole number of at least 0 or a size such as "4GiB"'),
        ("[subsystems.a]\ncommand=['x']\nmemory_max=4", "3: subsystems.a.memory_max: is 4 bytes, in which no program"),
        ("[subsystems.a]\ncommand=['x']\nmemory_max='1G'\nmemory_high='2GB'",
         "4: subsystems.a.memory_high: is 2GB, above memory_max, which is 1G; lower it or raise that"),
        ("[subsystems.a]\nkind='client'\nmemory_high='1G'", "3: subsystems.a.memory_high: is set, but a client has no"),
        ("[probes.host]\ndisk_limit_ratio = 0.5", "2: probes.host.disk_limit_ratio: is 0.5, and must be at most"),
        ("[probes.conversation]\nloop_repeats = 9999", "2: probes.conversation.loop_repeats: is 9999; give"),
        ("[probes.token_burn]\nmin_calls = 1", "2: probes.token_burn.min_calls: is 1; give"),
        ("[probes.token_burn.burn.fast]\nday_share = 2.0", "2: probes.token_burn.burn.fast.day_share: is 2"),
        ("a = 1\nb = = 2\n", "2: is not valid TOML: Invalid value; correct it"),
        ("a = 1\na = 2\n", "2: is not valid TOML: Cannot overwrite a value; correct it"),
        ("a = '\n", "1: is not valid TOML"),
        ("a = 1\nb = [\n\n", "2: is not valid TOML"),
        ("a = " + "9" * 5_000, ": is not valid TOML: Exceeds the limit"),
        ("a = " + "[" * 5_000, ": is nested too deeply"),
        (b"a = 1\nb = '\xff'\n", "2: is not UTF-8; save it as UTF-8"),
        (b"#" * (MAX_FILE_BYTES + 1), ": is larger than 1048576 bytes"),
        ("# x\r\n\r\n[gateway]\r\nidle_seconds = 0\r\n", "4: gateway.idle_seconds: is 0"),
    ],
)  # fmt: skip
def test_each_kind_of_error_is_one_message(tmp_path: Path, text: str | bytes, message: str) -> None:
    """The line, the key, what is wrong and what to do; and nothing about the consequences."""
    found = problems(tmp_path, text)
    assert len(found) == 1
    assert message in found[0]
    assert found[0].startswith("epad.toml:") or "larger" in message or "deeply" in message


def test_an_error_is_blamed_on_the_layer_it_stands_in(tmp_path: Path) -> None:
    """Also when a later layer sets the key right: the wrong line is still wrong."""
    first, second, third = (tmp_path / name for name in ("1.toml", "2.toml", "3.toml"))
    first.write_text("[gateway]\nidle_seconds = -1\n")
    second.write_text("\n[gateway]\nidle_seconds = 3\n")
    third.write_text("[policy\n")
    with pytest.raises(ConfigError) as caught:
        load(first, second, third, tmp_path / "4.toml")
    files = [(Path(p.origin.file).name, p.origin.line) for p in caught.value.problems]
    assert files == [("1.toml", 2), ("3.toml", 1), ("4.toml", 0)]


@pytest.mark.parametrize("content", ["", None])
def test_a_key_file_must_hold_a_key(tmp_path: Path, content: str | None) -> None:
    """An empty file or a directory is found now, not at the first request."""
    key = tmp_path / "key"
    if content is None:
        key.mkdir()
    else:
        key.write_text(content)
    upstream = f"[upstreams.u]\nurl='http://x'\ndialects=['openai']\napi_key_file='{key}'"
    assert "not a file with a key in it" in problems(tmp_path, upstream)[0]


def test_a_good_configuration_with_everything_in_it(tmp_path: Path) -> None:
    """The types' own defaults fill what a partial table leaves out."""
    (tmp_path / "key").write_text("k")
    config = accepted(
        tmp_path,
        f"""
[gateway]
listen = "[::1]:0"
[metrics]
listen = ""
[schedule]
checkpoint = ""
[upstreams.main]
url = "https://api.example.com"
dialects = ["openai", "ollama"]
api_key_file = "{tmp_path}/key"
[subsystems.db]
kind = "client"
[subsystems.agent]
command = ["python", "-m", "agent"]
depends_on = ["db"]
environment = {{ PATH = "/bin", "odd.name" = "x" }}
budget = {{ tokens_per_minute = 100 }}
""",
    )
    assert config.upstreams["main"] == UpstreamConfig(
        url="https://api.example.com", dialects=("openai", "ollama"), api_key_file=f"{tmp_path}/key"
    )
    assert config.subsystems["agent"].environment == {"PATH": "/bin", "odd.name": "x"}
    assert config.subsystems["agent"].budget.max_in_flight == 8
    assert config.subsystems["db"].command == ()


@given(section=st.sampled_from(Config.__struct_fields__), text=st.text("[]{}=.\"'#\n ab1", max_size=60))
def test_any_text_is_either_a_configuration_or_errors(tmp_path_factory, section: str, text: str) -> None:
    """Nothing that can stand in a file gets past as another kind of exception."""
    path = tmp_path_factory.mktemp("any") / "epad.toml"
    path.write_text(f"[{section}]\n{text}")
    found: Config | tuple[object, ...] = ()
    try:
        found = load(path)
    except ConfigError as error:
        found = error.problems
    assert found
