"""Who may address us: Host and Origin, honest and hostile."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from mcp_proxy.core.call import Peer
from mcp_proxy.core.origins import Admission, is_slipped_in

DEFAULT = Admission("localhost")


def of(
    admission: Admission, host: str | None, origin: str | None, scheme: str
) -> tuple[bool, bool]:
    """Ask for somebody who dialled us directly."""
    return admission.of(host, origin, Peer(scheme=scheme, host=host))


OPEN = Admission("localhost", ["*"], ["*"])
NAMED = Admission(
    "Sidecar.example.com",
    ["api.Example.com", "ports.example.com:8443"],
    ["https://App.example.com", "http://slash.example.com/", "vscode-webview://id", "null"],
)

LOOPBACK_HOSTS = [
    "localhost",
    "LOCALHOST",
    "localhost:8000",
    "localhost:",
    "127.0.0.1",
    "127.0.0.1:1",
    "127.0.0.2:8000",
    "[::1]",
    "[::1]:65535",
]
OTHER_HOSTS = [
    # IP literals: no DNS answer can rebind them
    "0.0.0.0",
    "192.168.1.7:8000",
    "[fe80::1]:8000",
    "[::ffff:127.0.0.1]",
    # single labels: Compose services
    "mcp-proxy",
    "MCP_Proxy:8000",
]
FOREIGN_HOSTS = [
    "evil.com",
    "evil.com:8000",
    "EVIL.COM",
    "localhost.evil.com",
    "127.0.0.1.evil.com",
    "localhost.",
    "evil.",
    "127.0.0.1.",
    "127.1",
    "127.0.0.256",
    "1.2.3",
    "0x7f.0.0.1",
    "a.localhost",
    "sidecar.example.com.evil.com",
    "xn--localhost-9za.com",
]
MALFORMED_HOSTS = [
    "",
    ":8000",
    "localhost:port",
    "localhost:123456",
    "localhost:-1",
    "localhost:80:80",
    "localhost:٨٠",
    "localhost@evil.com",
    "evil.com@localhost",
    "user:pw@localhost",
    "localhost/evil.com",
    "localhost?x",
    "localhost#x",
    "localhost\t",
    "http://localhost",
    "::1",
    "[::1",
    "[::1]x",
    "[::1].evil.com",
    "[evil.com]",
    "[cafe]",
    "local host",
    "localhost\\evil",
    "localhost,evil",
    "evil%2ecom",
    "evil．com",
    "localho\u017ft",
]


def test_what_was_asked_before_is_answered_from_memory() -> None:
    """The very same answer; another Origin is another question."""
    admission = Admission("localhost")
    first = of(admission, "api.evil.com", "http://localhost:3000", "http")
    assert of(admission, "api.evil.com", "http://localhost:3000", "http") is first
    assert first == (False, True)
    assert of(admission, "api.evil.com", "http://evil.com", "http") == (False, False)


@pytest.mark.parametrize("host", [None, *LOOPBACK_HOSTS, *OTHER_HOSTS])
def test_a_host_that_no_dns_answer_can_rebind_passes(host: str | None) -> None:
    """DESIGN section 6: loopback, an IP literal, a single label; HTTP/1.0 sends none."""
    assert DEFAULT.host_passes(host)


@pytest.mark.parametrize("host", [*FOREIGN_HOSTS, *MALFORMED_HOSTS])
def test_a_host_that_names_somebody_else_is_refused(host: str) -> None:
    """F37; CVE-2025-66414 and its kin."""
    assert not DEFAULT.host_passes(host)


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_any_well_formed_host_passes_where_all_are_allowed(host: str) -> None:
    """DESIGN section 6: `*` is any."""
    assert OPEN.host_passes(host)


@pytest.mark.parametrize("host", MALFORMED_HOSTS)
def test_a_malformed_host_is_nobodys_name(host: str) -> None:
    """F37: it would be read one way here and another way behind."""
    assert not OPEN.host_passes(host)


@pytest.mark.parametrize(
    ("host", "passes"),
    [
        ("sidecar.example.com", True),
        ("SIDECAR.example.com:8000", True),
        ("api.example.com:1", True),
        ("ports.example.com:8443", True),
        ("ports.example.com", False),
        ("ports.example.com:8444", False),
        ("x.api.example.com", False),
        ("example.com", False),
        ("api.example.com.", False),
    ],
)
def test_the_bound_name_and_the_allowed_ones_pass(host: str, passes: bool) -> None:
    """DESIGN section 6: the bound name or in MCP_ALLOWED_HOSTS."""
    assert NAMED.host_passes(host) is passes


LOOPBACK_ORIGINS = [
    "http://localhost",
    "http://localhost:3000",
    "https://localhost:3000",
    "HTTP://LOCALHOST:3000",
    "http://127.0.0.1:5173",
    "http://127.0.0.2:5173",
    "http://[::1]:8080",
]
FOREIGN_ORIGINS = [
    "",
    "null",
    "NULL",
    "http://evil.com",
    "https://localhost.evil.com",
    "http://127.0.0.1.evil.com:3000",
    "http://localhost.",
    "http://localhost@evil.com",
    "http://evil.com@localhost",
    "http://localhost:3000@evil.com",
    "http://localhost:123456",
    "http://[::1].evil.com",
    "http://[::1]evil.com",
    "http://localhost:port",
    "http://localhost/",
    "http://localhost/evil",
    "http://localhost?x",
    "http://localhost#x",
    "http://mcp-proxy",
    "http://10.0.0.1",
    "http://127.1",
    "http://[::1",
    "http://[::2]:3000",
    "//localhost",
    "localhost",
    "localhost:3000",
    "file://localhost",
    "file://",
    "chrome-extension://abcdef",
    "http://localhost http://evil.com",
    "http://evil.com, http://localhost",
]


@pytest.mark.parametrize("origin", [None, *LOOPBACK_ORIGINS])
@pytest.mark.parametrize("host", ["localhost:8000", "api.example.com", None])
def test_a_page_on_this_machine_may_ask_whatever_its_port(
    origin: str | None, host: str | None
) -> None:
    """DESIGN section 6: absent, or loopback on any port."""
    assert DEFAULT.origin_passes(host, origin, "http")


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
@pytest.mark.parametrize("host", ["localhost:8000", None])
def test_a_page_of_another_site_may_not_ask(origin: str, host: str | None) -> None:
    """F37, F38; MCP, transports, security warning."""
    assert not DEFAULT.origin_passes(host, origin, "http")


@pytest.mark.parametrize(
    ("host", "origin", "scheme", "passes"),
    [
        ("mcp-proxy:8000", "http://mcp-proxy:8000", "http", True),
        ("MCP-Proxy:8000", "http://mcp-proxy:8000", "http", True),
        ("10.0.0.1:8000", "http://10.0.0.1:8000", "http", True),
        ("mcp-proxy:8000", "https://mcp-proxy:8000", "http", False),
        ("mcp-proxy:8000", "http://mcp-proxy:8001", "http", False),
        ("mcp-proxy:8000", "http://mcp-proxy", "http", False),
        ("mcp-proxy", "http://mcp-proxy.evil.com", "http", False),
        (None, "http://none", "http", False),
    ],
)
def test_a_page_of_our_own_origin_may_ask(
    host: str | None, origin: str, scheme: str, passes: bool
) -> None:
    """DESIGN section 6: same-origin is scheme, host and port (RFC 6454)."""
    assert DEFAULT.origin_passes(host, origin, scheme) is passes


@pytest.mark.parametrize(
    ("origin", "passes"),
    [
        ("https://app.example.com", True),
        ("HTTPS://APP.EXAMPLE.COM", True),
        ("http://slash.example.com", True),
        ("vscode-webview://id", True),
        ("null", True),
        ("http://app.example.com", False),
        ("https://app.example.com:8443", False),
        ("https://app.example.com.evil.com", False),
        ("https://evil.com/https://app.example.com", False),
    ],
)
def test_the_allowed_origins_pass_and_nothing_like_them(origin: str, passes: bool) -> None:
    """DESIGN section 6: MCP_ALLOWED_ORIGINS."""
    assert NAMED.origin_passes("localhost", origin, "http") is passes


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
def test_any_origin_passes_where_all_are_allowed(origin: str) -> None:
    assert OPEN.origin_passes("localhost", origin, "http")


@given(host=st.text(), origin=st.text() | st.text().map("http://".__add__))
def test_no_host_and_no_origin_is_too_odd_to_be_judged(host: str, origin: str) -> None:
    """They come from anybody: an exception here would be a 500."""
    of(DEFAULT, host, origin, "http")


@given(
    label=st.from_regex(r"[a-z0-9-]{1,10}", fullmatch=True),
    site=st.from_regex(r"[a-z0-9-]{1,10}\.[a-z]{2,6}", fullmatch=True),
    port=st.sampled_from(["", ":80", ":8000"]),
)
def test_no_name_under_a_public_domain_passes(label: str, site: str, port: str) -> None:
    """F37: rebinding needs a name whose DNS the attacker answers."""
    for host in (f"{site}{port}", f"{label}.{site}{port}", f"localhost.{site}{port}"):
        assert of(DEFAULT, host, f"http://{host}", "https") == (False, False)


asked = st.tuples(
    st.sampled_from([None, *LOOPBACK_HOSTS, *FOREIGN_HOSTS]),
    st.sampled_from([None, *LOOPBACK_ORIGINS, *FOREIGN_ORIGINS]),
    st.sampled_from(["http", "https"]),
)


@given(questions=st.lists(asked, max_size=20))
def test_an_answer_does_not_depend_on_earlier_ones(
    questions: list[tuple[str | None, str | None, str]],
) -> None:
    """Decisions are remembered under everything that they rest on."""
    admission = Admission("localhost")
    for host, origin, scheme in [*questions, *questions]:
        expected = (DEFAULT.host_passes(host), DEFAULT.origin_passes(host, origin, scheme))
        assert of(admission, host, origin, scheme) == expected


@pytest.mark.parametrize(("count", "length"), [(200, 30_000), (10_000, 1)], ids=["giants", "many"])
def test_names_that_callers_make_up_do_not_fill_the_memory(count: int, length: int) -> None:
    """F46: every map bounded; headers may have 64 KiB."""
    admission = Admission("localhost")
    tracemalloc.start()
    try:
        for number in range(count):
            name = f"{number}{'x' * length}"
            assert of(admission, name, f"http://{name}", "http") == (True, True)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000


def test_the_origin_is_ours_by_the_name_that_was_dialled() -> None:
    """Behind a trusted proxy that is not the Host."""
    peer = Peer(scheme="https", host="mcp.example.com")
    assert DEFAULT.of("inside:8000", "https://mcp.example.com", peer) == (True, True)
    assert DEFAULT.of("inside:8000", "http://inside:8000", peer) == (True, False)


@pytest.mark.parametrize(
    ("method", "fields", "passing", "ours"),
    [
        ("POST", {}, True, True),  # no browser
        ("POST", {"Sec-Fetch-Site": "same-origin"}, True, True),
        ("POST", {"Sec-Fetch-Site": "none"}, True, True),
        ("POST", {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:3000"}, True, True),
        ("POST", {"Sec-Fetch-Site": "cross-site"}, False, False),
        ("PUT", {"Sec-Fetch-Site": "Cross-Site", "Sec-Fetch-Mode": "navigate"}, False, False),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, True, True),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, True, False),
        ("HEAD", {"Sec-Fetch-Site": "cross-site"}, True, False),
    ],
)
def test_what_other_sites_slip_in(
    method: str, fields: dict[str, str], *, passing: bool, ours: bool
) -> None:
    """F38: without an Origin, a page of another site changes nothing and embeds nothing of ours."""
    headers = CIMultiDict(fields)
    assert is_slipped_in(method, headers, ours=False) is not passing
    assert is_slipped_in(method, headers, ours=True) is not ours
