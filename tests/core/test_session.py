"""What is kept of a session, and how it is said again."""

import pytest
from multidict import CIMultiDict

from mcp_proxy.core.call import Stream, Whole
from mcp_proxy.core.keys import credentials, opener
from mcp_proxy.core.session import Session, addressed, begun, replay, told_back
from tests.fakes import Feed, call, rpc, streamed


def session(upstream: str = "theirs") -> Session:
    return Session("ours", "ann", b"opening", upstream)


def test_what_belongs_to_the_state_is_kept() -> None:
    one = session()
    assert one.note(rpc("notifications/initialized", None), b"ready")
    assert one.note(rpc("logging/setLevel"), b"level")
    assert one.note(rpc("logging/setLevel"), b"level, later")
    assert one.note(rpc("resources/subscribe", uri="a"), b"a")
    assert one.note(rpc("resources/subscribe", uri="b"), b"b")
    assert one.note(rpc("resources/unsubscribe", uri="a"), b"no a")
    assert one.note(rpc("resources/unsubscribe", uri="never"), b"no")
    assert not one.note(rpc("tools/list"), b"list")
    assert one.replays() == [b"ready", b"level, later", b"b"]
    said, names = b"opening" + b"ready" + b"level, later" + b"b", "ours" + "theirs" + "ann" + "b"
    assert one.size == len(said) + len(names)


def test_what_a_client_can_make_us_keep_is_bounded() -> None:
    """F46."""
    one = session()
    for number in range(500):
        one.note(rpc("resources/subscribe", uri=str(number)), b"x")
    assert len(one.subscriptions) == 50
    assert not one.note(rpc("logging/setLevel"), b"x" * 16_385)
    assert begun(call(body=b"x" * 16_385), "ann", "id") is None
    assert begun(call(), "ann", "i" * 16_385) is None
    body = streamed(Feed()).body
    assert isinstance(body, Stream)
    assert begun(call()._replace(body=body), "ann", "id") is None
    assert begun(call(body=b"x"), "ann", "id") == Session("id", "ann", b"x", "id")


def test_a_session_that_was_not_lost_changes_nothing() -> None:
    asked = call(headers={"Mcp-Session-Id": "ours"})
    same = session("ours")
    assert addressed(asked, same) is asked
    assert told_back(asked.headers, same) is asked.headers


@pytest.mark.parametrize("anew", [False, True])
def test_a_call_names_the_servers_own_id(anew: bool) -> None:
    headers = {"mcp-session-id": "ours", "Last-Event-ID": "7", "Accept": "x"}
    sent = addressed(call(headers=headers), session(), anew=anew).headers
    assert sent.getall("Mcp-Session-Id") == ["theirs"]
    assert ("Last-Event-ID" in sent) is not anew
    assert sent["Accept"] == "x"


def test_an_answer_names_the_clients_own_id() -> None:
    one = session()
    answer = CIMultiDict({"Mcp-Session-Id": "theirs", "A": "b"})
    assert told_back(answer, one) == CIMultiDict({"Mcp-Session-Id": "ours", "A": "b"})
    other = CIMultiDict({"Mcp-Session-Id": "another"})
    assert told_back(other, one) is other
    assert told_back(CIMultiDict(), one) == CIMultiDict()


def test_a_replay_bears_the_credentials_and_nothing_of_the_call() -> None:
    asked = call(
        headers={
            "Authorization": "Bearer ann",
            "Mcp-Session-Id": "ours",
            "MCP-Protocol-Version": "2025-11-25",
            "Content-Length": "9",
            "Last-Event-ID": "7",
            "Accept": "text/html",
        }
    )
    first = replay(asked, b"opening", None)
    assert first.body == Whole(b"opening")
    assert dict(first.headers) == {
        "Authorization": "Bearer ann",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }
    then = replay(asked, b"ready", "theirs").headers
    assert (then["Mcp-Session-Id"], then["MCP-Protocol-Version"]) == ("theirs", "2025-11-25")


def test_who_opened_a_session_is_told_apart_from_the_session() -> None:
    one, two = (
        CIMultiDict({"Authorization": "a", "Mcp-Session-Id": name, "Accept": name}) for name in "xy"
    )
    assert opener(one) == opener(two)
    assert credentials(one) != credentials(two)
    assert opener(one) != opener(CIMultiDict({"Authorization": "b"}))
