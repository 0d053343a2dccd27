"""Where the server is, and how its own addresses become ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_proxy.core.addresses import address, of_command, own_url


@pytest.mark.parametrize(
    ("url", "origin", "prefix"),
    [
        ("http://old", "http://old:80", ""),
        ("https://old", "https://old:443", ""),
        ("http://old:9000/", "http://old:9000", ""),
        ("http://OLD:9000/base/", "http://old:9000", "/base"),
        ("http://[::1]:9000", "http://[::1]:9000", ""),
        ("http://10.0.0.7/mcp/v2", "http://10.0.0.7:80", "/mcp/v2"),
    ],
)
def test_an_upstream_url_says_where_the_server_is(url: str, origin: str, prefix: str) -> None:
    read = address(url, "/mcp")
    assert (read.origin, read.prefix, read.ends_at_mcp) == (origin, prefix, False)
    assert read.name == origin + prefix


def test_a_command_is_called_by_its_program_and_has_a_base_all_the_same() -> None:
    """Names are shown and counted by; URLs are made of the base."""
    read = of_command("python")
    assert (read.name, read.base) == ("stdio:python", "http://stdio:80")
    assert read.reversed("http://stdio/x") == "/x"
    assert address("http://old/base", "/mcp").base == "http://old:80/base"


@pytest.mark.parametrize("url", ["http://old:9000/mcp", "http://old:9000/mcp/"])
@pytest.mark.parametrize("mcp_path", ["/mcp", "/mcp/"])
def test_a_path_equal_to_the_mcp_path_is_where_the_url_ends_and_no_prefix(
    url: str, mcp_path: str
) -> None:
    """DESIGN section 7: it is dropped with `config.warning`; any other is a prefix."""
    read = address(url, mcp_path)
    assert (read.prefix, read.ends_at_mcp) == ("", True)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "old:9000",
        "//old:9000",
        "ftp://old",
        "unix:///run/old",
        "http://",
        "http://:9000",
        "http://old:port",
        "http://old:70000",
        "http://[old",
        "http://old/?a=1",
        "http://old/#part",
    ],
)
def test_what_names_no_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        address(url, "/mcp")


@pytest.mark.parametrize(
    ("url", "userinfo"),
    [
        ("http://old", None),
        ("http://@old", None),
        ("http://me@old", ("me", "")),
        ("http://me:secret@old", ("me", "secret")),
        ("http://:token@old", ("", "token")),
        ("http://me%40corp:p%3A%2Fss%25@old", ("me@corp", "p:/ss%")),
    ],
)
def test_credentials_are_decoded_as_the_url_spelled_them(
    url: str, userinfo: tuple[str, str] | None
) -> None:
    """RFC 3986 section 3.2.1: what delimits a URL can stand in a password only percent-encoded."""
    assert address(url, "/mcp").userinfo == userinfo


@pytest.mark.parametrize(
    ("location", "ours"),
    [
        ("http://127.0.0.1:9000/messages/?session_id=1", "/messages/?session_id=1"),
        ("HTTP://LocalHost:9000/a", "/a"),
        ("http://[::1]:9000/a%2Fb;c?d=%20#e", "/a%2Fb;c?d=%20#e"),
        ("http://localhost:9000", "/"),
        ("http://localhost:9000?a=1", "/?a=1"),
        ("http://localhost:9000#top", "/#top"),
        # as they are: relative, foreign, or not what they seem
        ("/messages/", None),
        ("?session_id=1", None),
        ("", None),
        ("https://localhost:9000/a", None),
        ("http://localhost:9001/a", None),
        ("http://localhost/a", None),
        ("http://elsewhere:9000/a", None),
        ("http://localhost:9000@elsewhere/a", None),
        ("http://user@localhost:9000/a", None),
        ("http://localhost:9000.elsewhere/a", None),
        ("//localhost:9000/a", None),
        ("http://[localhost:9000/a", None),
    ],
)
def test_the_servers_own_addresses_become_paths_and_others_stay(
    location: str, ours: str | None
) -> None:
    """Protocol section 5: absolute and of the upstream's origin or an alias; foreign ones stay."""
    assert address("http://127.0.0.1:9000", "/mcp").reversed(location) == ours


@pytest.mark.parametrize(
    ("location", "ours"),
    [
        ("http://old:9000/base/a?b", "/a?b"),
        ("http://old:9000/base", "/"),
        ("http://old:9000/base?b=1", "/?b=1"),
        ("/base/messages/?session_id=1", "/messages/?session_id=1"),
        ("http://old:9000/basement", "/basement"),
        ("/basement", None),
        ("/messages/", None),
    ],
)
def test_a_prefix_is_taken_off_once(location: str, ours: str | None) -> None:
    """DESIGN section 7: a path in MCP_UPSTREAM_URL is put before each target again."""
    assert address("http://old:9000/base", "/mcp").reversed(location) == ours


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("http://old", "http://old:80/a"),
        ("http://old:80", "http://old/a"),
        ("https://old", "https://old/a"),
        ("https://old", "https://old:443/a"),
    ],
)
def test_the_default_port_may_be_said_or_left_out(url: str, location: str) -> None:
    assert address(url, "/mcp").reversed(location) == "/a"


@given(rest=st.text())
def test_what_follows_the_origin_stays_byte_for_byte(rest: str) -> None:
    """Protocol section 5: keep query and line ends verbatim."""
    assert address("http://old", "/mcp").reversed(f"http://old/{rest}") == f"/{rest}"


@given(location=st.text() | st.text().map("http://".__add__))
def test_no_location_is_too_odd_to_be_looked_at(location: str) -> None:
    """It comes from the server: an exception here would lose an answer that is there."""
    ours = address("http://old/base", "/mcp").reversed(location)
    assert ours is None or ours.startswith("/")


def test_an_address_may_be_known_by_another_host() -> None:
    """MCP_UPSTREAM_HOST_HEADER: the server builds its URLs of what it sees."""
    named = address("http://localhost:9000/base", "/mcp").also("MCP.example.com:81")
    assert named.reversed("http://mcp.example.com:81/base/x") == "/x"
    assert named.reversed("http://127.0.0.1:9000/base/x") == "/x"
    assert named.reversed("http://mcp.example.com/base/x") is None


def test_the_prefix_tells_servers_of_one_origin_apart() -> None:
    """Their circuits, health and metrics bear the name; credentials are not part of it."""
    one, other = (address(f"http://user:secret@host:9000/{path}", "/mcp") for path in "ab")
    assert (one.name, other.name) == ("http://host:9000/a", "http://host:9000/b")


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"MCP_PORT": "9"}, "http://localhost:9"),
        ({"MCP_PORT": "9", "MCP_OPS_PORT": "10"}, "http://localhost:10"),
        ({"MCP_HOST": "0.0.0.0"}, "http://localhost:8000"),
        ({"MCP_HOST": "::"}, "http://localhost:8000"),
        ({"MCP_HOST": "::1", "MCP_PORT": ""}, "http://[::1]:8000"),
        ({"MCP_HOST": "proxy"}, "http://proxy:8000"),
    ],
)
def test_the_sidecar_of_this_machine(environ: dict[str, str], url: str) -> None:
    assert own_url(environ) == url
