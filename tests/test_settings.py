"""The settings: one model, four sources, every fault at once."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from mcp_proxy.settings import Settings, variables
from mcp_proxy.sources import Loader, SettingsError, traces_wanted

URL = {"MCP_UPSTREAM_URL": "http://localhost:9000"}


def load(environ: dict[str, str] | None = None, **flags: Any) -> Settings:
    return Loader(flags, {**URL, **(environ or {})}).load()


def value(settings: Settings, variable: str) -> Any:
    section, key = variables()[variable]
    found = getattr(getattr(settings, section), key)
    if variable == "MCP_UPSTREAM_URL":
        [found] = found
    return found.get_secret_value() if isinstance(found, SecretStr) else found


def faults(environ: dict[str, str] | None = None, **flags: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(environ, **flags)
    return caught.value.faults


def in_file(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "mcp.toml"
    path.write_text(text, encoding="utf-8")
    return {"MCP_CONFIG_FILE": str(path)}


# --- defaults

DEFAULTS: dict[str, Any] = {
    "MCP_HOST": "localhost",
    "MCP_PORT": 8000,
    "MCP_DEBUG": False,
    "MCP_CACHE_ENABLED": True,
    "MCP_ENABLE_CACHING": True,
    "MCP_CACHE_TTL": 300,
    "REDIS_URL": None,
    "MCP_MAX_RETRIES": 3,
    "MCP_BACKOFF_FACTOR": 2.0,
    "MCP_CB_FAILURE_THRESHOLD": 5,
    "MCP_CB_RECOVERY_TIMEOUT": 60,
    "MCP_ENABLE_METRICS": True,
    "MCP_ENABLE_CIRCUIT_BREAKER": True,
    "MCP_REQUEST_TIMEOUT": 300,
    "MCP_ATTEMPT_TIMEOUT": 25,
    "MCP_RETRY_WINDOW": 45,
    "MCP_CONNECT_TIMEOUT": 3,
    "MCP_CACHE_MAX_BYTES": 67_108_864,
    "MCP_CACHE_MAX_ENTRIES": 10_000,
    "MCP_BUFFER_LIMIT": 1_048_576,
    "MCP_MAX_BODY_BYTES": 0,
    "MCP_HEALTH_INTERVAL": 5,
    "MCP_HEALTH_PATH": "/api/health",
    "MCP_SHUTDOWN_GRACE": 8,
    "MCP_PATH": "/mcp",
    "MCP_SSE_PATH": "/sse",
    "MCP_MESSAGES_PATH": "/messages",
    "MCP_STREAMS_LIMIT": 20_000,
    "MCP_RESTART_GRACE": 3,
    "MCP_BACKOFF_BASE": 0.1,
    "MCP_BACKOFF_MAX": 5,
    "MCP_CB_FAILURE_RATE": 0.5,
    "MCP_CB_MIN_VOLUME": 20,
    "MCP_CB_WINDOW": 10,
    "MCP_CACHE_ANNOTATED_TTL": 10,
    "MCP_CACHE_QUARANTINE": 30,
    "MCP_TRUST_ANNOTATIONS": True,
    "MCP_ENRICH_RESPONSES": True,
    "MCP_TOOL_ERROR_STYLE": "result",
    "MCP_CACHE_SHARE_SESSIONS": False,
    "MCP_CACHE_STRATEGY": "write-through",
    "MCP_ADMIN_TOKEN": None,
    "MCP_UPSTREAM_NAME": None,
    "MCP_ALLOWED_HOSTS": (),
    "MCP_ALLOWED_ORIGINS": (),
}


@pytest.mark.parametrize(("variable", "default"), DEFAULTS.items())
def test_a_default_is_the_documented_one(variable: str, default: Any) -> None:
    """DESIGN section 7, and section 4 for the times."""
    assert value(load(), variable) == default


def test_every_setting_has_a_variable_and_a_description() -> None:
    known = variables()
    assert len(set(known.values())) == len(known)
    assert all(name == "REDIS_URL" or name.startswith("MCP_") for name in known)
    for section, key in known.values():
        field = Settings.model_fields[section].annotation.model_fields[key]  # type: ignore[union-attr]
        assert field.description


def test_settings_are_frozen() -> None:
    settings = load()
    with pytest.raises(ValidationError):
        settings.server = settings.server
    with pytest.raises(ValidationError):
        settings.server.port = 1


# --- sources


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("MCP_UPSTREAM_URL", "https://h.example:1/p", "https://h.example:1/p"),
        ("MCP_PORT", "0", 0),
        ("MCP_PORT", " 9000 ", 9000),
        ("MCP_HOST", "0.0.0.0", "0.0.0.0"),
        ("MCP_DEBUG", "1", True),
        ("MCP_ENABLE_METRICS", "off", False),
        ("MCP_CACHE_ENABLED", "False", False),
        ("MCP_CACHE_TTL", "0", 0),
        ("MCP_CACHE_TTL", "2.5", 2.5),
        ("MCP_MAX_RETRIES", "0", 0),
        ("MCP_PATH", "/v1/mcp", "/v1/mcp"),
        ("MCP_HEALTH_PATH", "/health?deep=1", "/health?deep=1"),
        ("MCP_ALLOWED_HOSTS", "a.example, b.example:1 ,,", ("a.example", "b.example:1")),
        ("MCP_ALLOWED_HOSTS", "*,[::1]:8000,::1", ("*", "[::1]:8000", "::1")),
        ("MCP_ALLOWED_ORIGINS", "*, null", ("*", "null")),
        (
            "MCP_ALLOWED_ORIGINS",
            "https://a.example/,HTTP://b:80,vscode-webview://1x",
            ("https://a.example/", "HTTP://b:80", "vscode-webview://1x"),
        ),
        ("MCP_TOOL_ROUTES", "/a", ("/a",)),
        ("MCP_CACHE_IGNORE_HEADERS", "X-A,X-B", ("X-A", "X-B")),
        ("MCP_CACHE_STRATEGY", "write-back", "write-back"),
        ("MCP_LOG_LEVEL", "error", "error"),
        ("MCP_ERROR_STATUS", "compat", "compat"),
        ("REDIS_URL", "rediss://r:6379/0", "rediss://r:6379/0"),
        ("MCP_ADMIN_TOKEN", "t", "t"),
    ],
)
def test_a_variable_is_read(variable: str, text: str, expected: Any) -> None:
    assert value(load({variable: text}), variable) == expected


def test_what_was_typed_beats_the_environment_beats_the_file(tmp_path: Path) -> None:
    """DESIGN section 7: flags > environment > file > defaults."""
    environ = in_file(tmp_path, '[server]\nport = 1\nhost = "file"\nmcp_path = "/file"\n')
    environ |= {"MCP_PORT": "2", "MCP_HOST": "environ"}
    settings = load(environ, MCP_PORT="3", MCP_HOST=None)
    assert settings.server.port == 3
    assert settings.server.host == "environ"
    assert settings.server.mcp_path == "/file"
    assert settings.server.sse_path == "/sse"


def test_a_typed_file_beats_that_of_the_environment(tmp_path: Path) -> None:
    typed = tmp_path / "typed.toml"
    typed.write_text("[server]\nport = 7\n")
    environ = in_file(tmp_path, "[server]\nport = 1\n")
    assert load(environ, MCP_CONFIG_FILE=str(typed)).server.port == 7


def test_an_empty_variable_means_the_default() -> None:
    """Compose files leave them so."""
    empty = dict.fromkeys([*variables(), "MCP_CONFIG_FILE", "MCP_ADMIN_TOKEN_FILE"], "")
    assert load({**empty, **URL}).model_dump() == load().model_dump()
    with pytest.raises(SettingsError, match=r"^MCP_UPSTREAM_URL: missing"):
        Loader({}, empty).load()


def test_the_file_has_the_same_settings_in_tables(tmp_path: Path) -> None:
    settings = Loader(
        {},
        in_file(
            tmp_path,
            """
            [upstream]
            url = "http://box:1"
            [cache]
            ttl = 0
            ignore_headers = ["X-A"]
            [server]
            admin_token = "t"
            [tools."salesforce_query*"]
            read_only = true
            ttl = 5
            [tools."jira/x"]
            idempotent = true
            cache = false
            attempt_timeout = 1.5
            [failures]
            patterns = ["not connected"]
            """,
        ),
    ).load()
    assert value(settings, "MCP_UPSTREAM_URL") == "http://box:1"
    assert settings.cache.ttl == 0
    assert settings.cache.ignore_headers == ("X-A",)
    assert value(settings, "MCP_ADMIN_TOKEN") == "t"
    assert settings.tools["salesforce_query*"].read_only is True
    assert settings.tools["salesforce_query*"].ttl == 5
    assert settings.tools["jira/x"].idempotent is True
    assert settings.tools["jira/x"].cache is False
    assert settings.tools["jira/x"].attempt_timeout == 1.5
    assert settings.failures.patterns == ("not connected",)


def test_the_configuration_of_the_bundled_pair_is_usable() -> None:
    file = Path(__file__).parents[1] / "config" / "mcp_proxy.toml"
    assert load({"MCP_CONFIG_FILE": str(file)}).tools["salesforce_query*"].read_only is True


@pytest.mark.parametrize("switch", ["MCP_CACHE_ENABLED", "MCP_ENABLE_CACHING"])
def test_caching_is_off_if_either_switch_is(switch: str) -> None:
    assert load().cache.on
    assert not load({switch: "false"}).cache.on


def test_debug_is_a_log_level() -> None:
    assert load().signals.lowest_level == "info"
    assert load({"MCP_LOG_LEVEL": "error"}).signals.lowest_level == "error"
    assert load({"MCP_LOG_LEVEL": "error", "MCP_DEBUG": "true"}).signals.lowest_level == "debug"


# --- faults


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("MCP_CACHE_TTL", "nan"),
        ("MCP_CACHE_TTL", "inf"),
        ("MCP_CACHE_TTL", "-1"),
        ("MCP_CACHE_TTL", "1e9"),
        ("MCP_REQUEST_TIMEOUT", "nan"),
        ("MCP_REQUEST_TIMEOUT", "0"),
        ("MCP_REQUEST_TIMEOUT", "five"),
        ("MCP_BACKOFF_FACTOR", "nan"),
        ("MCP_BACKOFF_FACTOR", "0.5"),
        ("MCP_BACKOFF_FACTOR", "11"),
        ("MCP_CB_FAILURE_RATE", "nan"),
        ("MCP_CB_FAILURE_RATE", "0"),
        ("MCP_CB_FAILURE_RATE", "1.1"),
        ("MCP_MAX_RETRIES", "-1"),
        ("MCP_MAX_RETRIES", "21"),
        ("MCP_MAX_RETRIES", "1.5"),
        ("MCP_CB_FAILURE_THRESHOLD", "0"),
        ("MCP_PORT", "-1"),
        ("MCP_PORT", "65536"),
        ("MCP_PORT", "http"),
        ("MCP_DEBUG", "maybe"),
        ("MCP_LOG_LEVEL", "loud"),
        ("MCP_PATH", "mcp"),
        ("MCP_HEALTH_PATH", "health"),
        ("MCP_PATH", "/mcp?x=1"),
        ("MCP_SSE_PATH", "/s se"),
        ("MCP_TOOL_ROUTES", "/a#b"),
        ("MCP_HELD_BYTES", "0"),
        ("MCP_BUFFER_LIMIT", "-1"),
        ("MCP_STREAMS_LIMIT", "0"),
        ("MCP_ERROR_STATUS", "200"),
        ("MCP_TOOL_ERROR_STYLE", "none"),
        ("REDIS_URL", "http://r:6379"),
        ("REDIS_URL", "r:6379"),
        ("MCP_UPSTREAM_URL", "localhost:9000"),
        ("MCP_UPSTREAM_URL", "ftp://localhost"),
        ("MCP_UPSTREAM_URL", "http://"),
        ("MCP_UPSTREAM_URL", "http://localhost:99999"),
        ("MCP_UPSTREAM_URL", "http://localhost:x"),
        ("MCP_UPSTREAM_URL", "http://[::1"),
        ("MCP_UPSTREAM_URL", "http://localhost/?a=1"),
        ("MCP_UPSTREAM_URL", "http://localhost/#a"),
        ("MCP_TRUSTED_PROXIES", "everybody"),
        ("MCP_TRUSTED_PROXIES", "10.0.0.0/33"),
        ("MCP_TOOL_ROUTES", "/a, api/call-tool"),
        ("MCP_ALLOWED_HOSTS", "https://mcp.example.com"),
        ("MCP_ALLOWED_HOSTS", "mcp.example.com/mcp"),
        ("MCP_ALLOWED_HOSTS", "a.example, *.example.com"),
        ("MCP_ALLOWED_HOSTS", "a.example b.example"),
        ("MCP_ALLOWED_ORIGINS", "app.example.com"),
        ("MCP_ALLOWED_ORIGINS", "https://*.example.com"),
        ("MCP_ALLOWED_ORIGINS", "https://app.example.com/page"),
        ("MCP_CACHE_IGNORE_HEADERS", "X-A X-B"),
        ("MCP_CACHE_IGNORE_HEADERS", "X-A:"),
        ("MCP_UPSTREAM_HOST_HEADER", "http://x"),
        ("MCP_UPSTREAM_HOST_HEADER", "a b"),
        ("MCP_PUBLIC_URL", "mcp.example.com"),
        ("MCP_SSE_KEEPALIVE", "-1"),
        ("MCP_CACHE_STALE_IF_ERROR", "nan"),
    ],
)
def test_a_wrong_value_is_refused_with_key_source_and_what_was_expected(
    variable: str, text: str
) -> None:
    (fault,) = faults({variable: text})
    assert fault.startswith(f"{variable} (environment): got ")
    assert "expected " in fault
    assert "\n" not in fault
    (fault,) = faults(**{variable: text})
    assert fault.startswith(f"{variable} (command line): got ")


@pytest.mark.parametrize(
    ("variable", "text", "fault"),
    [
        ("MCP_PORT", "http", "got 'http', expected a valid integer"),
        ("MCP_CACHE_TTL", "nan", "got 'nan', expected a finite number"),
        ("MCP_PATH", "mcp", "got 'mcp', expected a path that begins with /"),
        ("MCP_LOG_LEVEL", "loud", "got 'loud', expected 'debug', 'info', 'warning' or 'error'"),
        ("MCP_MAX_RETRIES", "21", "got '21', expected less than or equal to 20"),
        ("REDIS_URL", "r:6379", "a URL such as redis://localhost:6379/0, rediss://… or unix://…"),
        (
            "MCP_UPSTREAM_URL",
            "localhost:9000",
            "got 'localhost:9000', expected an http:// or https:// URL with a host",
        ),
    ],
)
def test_a_fault_is_told_in_words(variable: str, text: str, fault: str) -> None:
    (found,) = faults({variable: text})
    assert fault in found


def test_a_missing_url_is_told_with_an_example() -> None:
    with pytest.raises(SettingsError) as caught:
        Loader({}, {}).load()
    assert str(caught.value) == (
        "MCP_UPSTREAM_URL: missing; give the server's URL, such as http://localhost:9000, "
        "or its command in MCP_UPSTREAM_COMMAND"
    )


def test_a_command_takes_the_place_of_a_url() -> None:
    """No shell reads it: quotes group words, and nothing else has a meaning."""
    settings = Loader({"MCP_UPSTREAM_COMMAND": "python 'my server.py' $HOME | x"}, {}).load()
    assert settings.upstream.arguments == ("python", "my server.py", "$HOME", "|", "x")
    assert settings.upstream.url is None
    assert Loader({}, URL).load().upstream.arguments == ()


@pytest.mark.parametrize("command", ["python 'server.py", "''", "  "])
def test_a_command_that_no_shell_would_take_is_refused_without_being_shown(command: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Loader({}, {"MCP_UPSTREAM_COMMAND": command}).load()
    assert str(caught.value) == (
        "MCP_UPSTREAM_COMMAND (environment): got a secret, "
        "expected a command such as 'python server.py', its quotes in pairs"
    )


def test_workers_beside_a_command_are_refused() -> None:
    """Each would run it for itself, and know nothing of the sessions of the others."""
    values = {"MCP_UPSTREAM_COMMAND": "python server.py"}
    assert Loader({}, {**values, "MCP_WORKERS": "1"}).load().server.workers == 1
    with pytest.raises(SettingsError) as caught:
        Loader({}, {**values, "MCP_WORKERS": "2"}).load()
    assert str(caught.value) == (
        "MCP_WORKERS (environment): more than one, beside MCP_UPSTREAM_COMMAND, "
        "whose processes belong to one; leave MCP_WORKERS out"
    )


def test_a_sidecar_has_one_server() -> None:
    """Neither wins in silence, whatever the sources."""
    with pytest.raises(SettingsError) as caught:
        Loader({"MCP_UPSTREAM_COMMAND": "python server.py"}, URL).load()
    assert str(caught.value) == (
        "MCP_UPSTREAM_URL (environment) and MCP_UPSTREAM_COMMAND (command line): both are set; "
        "a sidecar has one server, so leave one of them out"
    )


def test_a_url_missing_in_its_table_is_told_the_same(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^MCP_UPSTREAM_URL: missing"):
        Loader({}, in_file(tmp_path, "[upstream]\nname = 'x'\n")).load()


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    """DESIGN section 7, F50."""
    environ = in_file(
        tmp_path,
        '[server]\nprot = 1\nbuffer_limit = "much"\n[tools."a*"]\nreadonly = true\nttl = -1\n',
    )
    file = environ["MCP_CONFIG_FILE"]
    found = faults(
        {**environ, "MCP_CACHE_TTL": "soon", "MCP_ADMIN_TOKEN_FILE": str(tmp_path / "none")},
        MCP_PORT="x",
    )
    assert sorted(found) == sorted(
        [
            (
                "MCP_PORT (command line): got 'x', expected a valid integer, unable to parse string "
                "as an integer"
            ),
            (
                "MCP_CACHE_TTL (environment): got 'soon', expected a valid number, unable to parse "
                "string as a number"
            ),
            f"server.prot (file {file}): unknown key; did you mean port?",
            (
                f"server.buffer_limit (file {file}): got 'much', expected a valid integer, unable to "
                "parse string as an integer"
            ),
            f"tools.a*.readonly (file {file}): unknown key; did you mean read_only?",
            f"tools.a*.ttl (file {file}): got -1, expected greater than or equal to 0",
            (
                f"MCP_ADMIN_TOKEN_FILE (environment): got {str(tmp_path / 'none')!r}, expected a "
                "readable file (No such file or directory)"
            ),
        ]
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[cahce]\nttl = 1\n", "cahce (file {file}): unknown key; did you mean cache?"),
        ("[cahce]\n", "cahce (file {file}): unknown key; did you mean cache?"),
        ("[server]\nzzz = 1\n", "server.zzz (file {file}): unknown key"),
        ("port = 1\n", "port (file {file}): unknown key"),
        ("[breaker]\nmin_volum = 1\n", "did you mean min_volume?"),
        ("[tools]\nx = 5\n", "tools.x (file {file}): got 5, expected"),
        ("[tools.x]\ncache = 5\n", "tools.x.cache (file {file}): got 5, expected"),
        ("[failures]\npatterns = [1]\n", "failures.patterns.0 (file {file}): got 1"),
        ('cache = "off"\n', "cache (file {file}): got"),
    ],
)
def test_a_wrong_key_or_value_of_the_file_is_named(tmp_path: Path, text: str, fault: str) -> None:
    """Unknown keys in the file are errors."""
    environ = in_file(tmp_path, text)
    found = faults(environ)
    assert len(found) == 1
    assert fault.format(file=environ["MCP_CONFIG_FILE"]) in found[0]


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda path: None, "expected a readable file (No such file or directory)"),
        (lambda path: path.mkdir(), "expected a readable file (Is a directory)"),
        (lambda path: path.write_text("[server\n"), "is no TOML"),
        (lambda path: path.write_bytes(b"a = '\xff'\n"), "is no TOML"),
        (lambda path: path.write_text("a = " + "[" * 5000), "is no TOML"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_fault_among_others(
    tmp_path: Path, make: Any, fault: str
) -> None:
    path = tmp_path / "mcp.toml"
    make(path)
    found = faults({"MCP_CONFIG_FILE": str(path), "MCP_PORT": "x"})
    assert len(found) == 2
    assert any(fault in one and str(path) in one for one in found)
    # what may stand in it is not called missing
    (only,) = faults({"MCP_CONFIG_FILE": str(path), "MCP_UPSTREAM_URL": ""})
    assert fault in only


# --- unknown variables


def test_an_unknown_variable_is_a_warning_with_the_nearest() -> None:
    """A misspelt MCP_PROT is silently ignored by pydantic-settings."""
    loader = Loader({}, {**URL, "MCP_PROT": "1", "MCP_": "1", "MCP_XYZZY_FOO": "", "PORT": "1"})
    loader.load()
    assert loader.warnings == [
        "MCP_PROT (environment): unknown variable; did you mean MCP_PORT?",
        "MCP_ (environment): unknown variable; did you mean MCP_PORT?",
        "MCP_XYZZY_FOO (environment): unknown variable",
    ]


def test_known_variables_are_no_strangers(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("http://localhost:9000")
    environ = dict.fromkeys(variables(), "") | in_file(tmp_path, "")
    environ |= {f"{name}_FILE": str(secret) for name in ("MCP_UPSTREAM_URL", "MCP_ADMIN_TOKEN")}
    loader = Loader({}, environ)
    loader.load()
    assert loader.warnings == []


def test_a_file_variant_of_what_is_no_secret_is_a_stranger() -> None:
    loader = Loader({}, {**URL, "MCP_PORT_FILE": "/x"})
    loader.load()
    assert loader.warnings == [
        "MCP_PORT_FILE (environment): unknown variable; did you mean MCP_PORT?"
    ]


# --- secrets


@pytest.mark.parametrize("variable", ["MCP_UPSTREAM_URL", "MCP_ADMIN_TOKEN", "REDIS_URL"])
def test_a_secret_can_stand_in_a_file_of_its_own(tmp_path: Path, variable: str) -> None:
    secrets = {
        "MCP_UPSTREAM_URL": "http://u:p@localhost:9",
        "MCP_ADMIN_TOKEN": "t",
        "REDIS_URL": "redis://:p@r:6379",
    }
    file = tmp_path / "secret"
    file.write_text(secrets[variable] + "\n")
    environ = {f"{variable}_FILE": str(file)}
    if variable != "MCP_UPSTREAM_URL":
        environ |= URL
    assert value(Loader({}, environ).load(), variable) == secrets[variable]
    # the variable itself wins, unless it is empty
    other = "redis://other" if variable == "REDIS_URL" else "http://other"
    assert value(Loader({}, {**environ, variable: other}).load(), variable) == other
    assert value(Loader({}, {**environ, variable: ""}).load(), variable) == secrets[variable]


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe"])
def test_a_secret_file_without_a_secret_is_a_fault(tmp_path: Path, content: bytes) -> None:
    """An empty token file must not leave the endpoints open."""
    file = tmp_path / "token"
    file.write_bytes(content)
    (fault,) = faults({"MCP_ADMIN_TOKEN_FILE": str(file)})
    assert fault.startswith(f"MCP_ADMIN_TOKEN_FILE (environment): got {str(file)!r}, expected ")


CANARY = "c4nary"


@pytest.mark.parametrize(
    "environ",
    [
        {"MCP_UPSTREAM_URL": f"ftp://u:{CANARY}@h"},
        {"MCP_UPSTREAM_URL": f"http://u:{CANARY}"},
        {"MCP_UPSTREAM_URL": f"http://u:{CANARY}@h:x{CANARY}"},
        {"MCP_UPSTREAM_URL": f"http://h:{CANARY}/x"},
        {"MCP_UPSTREAM_URL": f"http://h/?token={CANARY}"},
        {"MCP_UPSTREAM_URL": f"http://h/#{CANARY}"},
        {"MCP_UPSTREAM_URL": f"http://{CANARY}＃@h:1"},
        {"REDIS_URL": f"http://:{CANARY}@r"},
        {"REDIS_URL": f":{CANARY}@r"},
    ],
)
def test_a_fault_tells_no_secret(environ: dict[str, str]) -> None:
    """F42: URL passwords masked, wherever they were meant to stand."""
    assert CANARY not in "".join(faults(environ))
    assert CANARY not in "".join(faults(**environ))


@pytest.mark.parametrize(
    "text",
    [
        f'[server]\nadmin_token = ["{CANARY}"]\n',
        f'[upstream]\nurl = [["http://u:{CANARY}@h"]]\n',
        f'[upstream]\nurl = ["http://u:{CANARY}@h", "http://{CANARY}@h"]\n',
        f'[upstream]\nurl = ["http://ok", "http://u:{CANARY}@"]\n',
        f'upstream = "http://u:{CANARY}@h"\n',
        f'server = ["{CANARY}"]\n',
        f'[cache.redis_url]\nx = "{CANARY}"\n',
    ],
)
def test_a_fault_of_the_file_tells_no_secret(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Loader({}, in_file(tmp_path, text)).load()
    assert CANARY not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("http://a:1,http://b:1", ["http://a:1", "http://b:1"]),
        (" http://a:1 , https://b/p ,", ["http://a:1", "https://b/p"]),
        ("http://u:p,w@a:1", ["http://u:p,w@a:1"]),
        ("http://a,http://a/two", ["http://a", "http://a/two"]),
    ],
)
def test_several_servers_are_separated_by_commas(text: str, urls: list[str]) -> None:
    """DESIGN section 4, Failover; a comma inside of a URL belongs to it."""
    found = load({"MCP_UPSTREAM_URL": text}).upstream.url
    assert [url.get_secret_value() for url in found] == urls


@pytest.mark.parametrize("text", ["http://a,http://a:80/", ",", "http://a,ftp://b", "http://a,b c"])
def test_several_servers_must_be_usable_and_different(text: str) -> None:
    [fault] = faults({"MCP_UPSTREAM_URL": text})
    assert fault.startswith("MCP_UPSTREAM_URL (environment): got ")


def test_several_servers_are_a_list_in_the_file(tmp_path: Path) -> None:
    written = in_file(tmp_path, '[upstream]\nurl = ["http://a", "http://b"]')
    found = Loader({}, written).load().upstream.url
    assert [url.get_secret_value() for url in found] == ["http://a", "http://b"]


def test_a_number_that_cannot_be_spelled_is_a_fault_all_the_same(tmp_path: Path) -> None:
    """Python reads such a number, and refuses to write it."""
    written = in_file(tmp_path, f"[upstream]\nurl = 'http://a'\n[tools.x]\nttl = 0x{'f' * 5000}")
    (fault,) = faults(written)
    assert "tools.x.ttl" in fault
    assert "got a very long number" in fault


@pytest.mark.parametrize("variable", ["MCP_CONFIG_FILE", "MCP_ADMIN_TOKEN_FILE"])
def test_a_name_that_no_file_can_have_is_a_fault(variable: str) -> None:
    assert variable in faults({"MCP_UPSTREAM_URL": "http://a", variable: "a\x00b"})[0]


def test_settings_show_no_secret() -> None:
    settings = load(
        {
            "MCP_UPSTREAM_URL": f"http://u:{CANARY}@h",
            "MCP_ADMIN_TOKEN": CANARY,
            "REDIS_URL": f"redis://:{CANARY}@r",
        }
    )
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert CANARY not in shown


def test_what_a_rule_invalidates_must_have_a_generation_of_its_own(tmp_path: Path) -> None:
    good = in_file(tmp_path, '[tools.save]\ninvalidates = ["jira/*", "look"]\n')
    assert load(good).tools["save"].invalidates == ("jira/*", "look")
    bad = in_file(tmp_path, '[tools.save]\ninvalidates = ["jira/lo*"]\n')
    (fault,) = faults(bad)
    assert "invalidates" in fault
    assert "service/tool" in fault


@pytest.mark.parametrize("token", ["  ", "secret ", "\tsecret", "sec\nret"])
def test_a_token_that_no_client_can_send_is_refused(token: str) -> None:
    """It would guard the endpoints against everybody."""
    with pytest.raises(SettingsError) as caught:
        Loader({}, {**URL, "MCP_ADMIN_TOKEN": token}).load()
    (fault,) = caught.value.faults
    assert fault.startswith("MCP_ADMIN_TOKEN (environment): got a secret, expected a token without")


def test_two_ports_are_two() -> None:
    (fault,) = faults({**URL, "MCP_OPS_PORT": "8000"})
    assert fault == (
        "MCP_OPS_PORT (environment): it is that of MCP_PORT, too; give it one of its own"
    )
    assert load({**URL, "MCP_OPS_PORT": "0"}, MCP_PORT="0").server.ops_port == 0


def test_what_is_no_list_is_told_in_words_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mcp.toml"
    file.write_text("[server]\ntool_routes = 5\n")
    with pytest.raises(SettingsError) as caught:
        Loader({"MCP_CONFIG_FILE": str(file)}, URL).load()
    (fault,) = caught.value.faults
    assert fault.endswith("got 5, expected a list, or one text with commas")


# --- OpenTelemetry's own variables

_OTLP = "OTEL_EXPORTER_OTLP_"
_TO = {f"{_OTLP}ENDPOINT": "http://localhost:4318"}


@pytest.mark.parametrize(
    ("environment", "wanted", "warns"),
    [
        ({}, False, False),
        ({"OTEL_SERVICE_NAME": "crm"}, False, False),
        (_TO, True, False),
        ({f"{_OTLP}TRACES_ENDPOINT": "http://localhost:4318/v1/traces"}, True, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True, False),
        ({"OTEL_TRACES_EXPORTER": " OTLP,console"}, True, False),
        ({f"{_OTLP}ENDPOINT": "", "OTEL_TRACES_EXPORTER": ""}, False, False),
        ({**_TO, "OTEL_TRACES_EXPORTER": "none"}, False, False),
        ({**_TO, "OTEL_TRACES_EXPORTER": "console"}, False, True),
        ({**_TO, "OTEL_SDK_DISABLED": "True"}, False, False),
        ({**_TO, "OTEL_SDK_DISABLED": "false"}, True, False),
        ({**_TO, f"{_OTLP}PROTOCOL": "http/protobuf"}, True, False),
        ({**_TO, f"{_OTLP}PROTOCOL": "grpc"}, False, True),
        (
            {**_TO, f"{_OTLP}PROTOCOL": "grpc", f"{_OTLP}TRACES_PROTOCOL": "http/protobuf"},
            True,
            False,
        ),
    ],
)
def test_the_standard_variables_say_whether_traces_are_told(
    environment: dict[str, str], *, wanted: bool, warns: bool
) -> None:
    """docs/traces.md; what cannot be done is said, and keeps nobody from being served."""
    told, warning = traces_wanted(environment)
    assert (told, bool(warning)) == (wanted, warns)
    loader = Loader({}, {"MCP_UPSTREAM_URL": "http://localhost:9000", **environment})
    loader.load()
    assert loader.warnings == ([warning] if warns else [])
