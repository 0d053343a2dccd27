"""Who asked: nobody is believed about it but a trusted proxy."""

import pytest
from multidict import CIMultiDict

from mcp_proxy.core.call import Peer
from mcp_proxy.core.peers import Proxies, household, network


def headers(*forwarded_for: str, proto: str = "", host: str = "") -> CIMultiDict[str]:
    found = CIMultiDict([("Host", "inside:8000")])
    found.extend(("X-Forwarded-For", value) for value in forwarded_for)
    if proto:
        found["X-Forwarded-Proto"] = proto
    if host:
        found["X-Forwarded-Host"] = host
    return found


CLAIM = headers("203.0.113.9", proto="https", host="mcp.example.com")


def test_nobody_is_believed_by_default() -> None:
    assert Proxies().peer(CLAIM, "127.0.0.1", "http") == Peer(
        "127.0.0.1", "127.0.0.1", "http", "inside:8000"
    )


def test_a_stranger_is_not_believed() -> None:
    """F40: a client that names itself."""
    proxies = Proxies(["10.0.0.0/8", "::1"])
    for address in ("192.0.2.1", "", "unix", "11.0.0.1"):
        assert proxies.peer(CLAIM, address, "http").client == address


@pytest.mark.parametrize("address", ["10.1.2.3", "::1"])
def test_a_trusted_proxy_is_believed(address: str) -> None:
    found = Proxies(["10.0.0.0/8", "::1"]).peer(CLAIM, address, "http")
    assert found == Peer("203.0.113.9", f"203.0.113.9, {address}", "https", "mcp.example.com")


@pytest.mark.parametrize(
    ("said", "client"),
    [
        (("1.1.1.1, 2.2.2.2, 10.0.0.9",), "2.2.2.2"),
        (("1.1.1.1", "2.2.2.2", "10.0.0.9"), "2.2.2.2"),
        (("10.0.0.7, 10.0.0.8",), "10.0.0.7"),
        (("1.1.1.1, nonsense",), "10.0.0.1"),
        (("1.1.1.1, nonsense, 10.0.0.9",), "10.0.0.9"),
        (("",), "10.0.0.1"),
        ((), "10.0.0.1"),
        ((", ".join(["10.0.0.2"] * 1000),), "10.0.0.2"),
    ],
)
def test_the_client_is_the_first_from_the_right_that_is_not_trusted(
    said: tuple[str, ...], client: str
) -> None:
    """What stands to its left was written by a stranger."""
    found = Proxies(["10.0.0.0/8"]).peer(headers(*said), "10.0.0.1", "http")
    assert found.client == client
    assert found.hops.split(", ")[0] == client
    assert found.hops.endswith("10.0.0.1")
    assert len(found.hops.split(", ")) <= 33


@pytest.mark.parametrize(("said", "scheme"), [("HTTPS", "https"), ("ftp", "http"), ("", "http")])
def test_a_scheme_is_one_that_we_know(said: str, scheme: str) -> None:
    assert Proxies(["10.0.0.1"]).peer(headers(proto=said), "10.0.0.1", "http").scheme == scheme


def test_a_network_is_named_by_any_of_its_addresses() -> None:
    assert network("10.1.2.3/8") == network("10.0.0.0/8")
    with pytest.raises(ValueError, match="does not appear"):
        network("everybody")


@pytest.mark.parametrize(
    ("address", "whose"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("unix:", "unix:"),
        ("", ""),
    ],
)
def test_one_client_has_a_whole_network_of_ipv6(address: str, whose: str) -> None:
    """RFC 7421: a /64 is what one host may have."""
    assert household(address) == whose
