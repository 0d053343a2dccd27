"""What a caller saw of a call, read from the bytes of any dialect."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tests.edge.wire import Said
from tests.kit.sent import Sent

DETAILS = "mcp_proxy/error"


class Fate(Enum):
    """What the caller may believe of its call."""

    DONE = "success"
    ANSWERED = "the server's own failure"  # 0 or 1 executions
    NOT_DELIVERED = "delivered: no"
    UNKNOWN = "delivered: unknown"
    LOST = "no whole answer"  # 0 or 1 executions


@dataclass(frozen=True, slots=True)
class Seen:
    """One call and what came of it."""

    sent: Sent
    fate: Fate
    details: dict[str, Any] | None = None  # the failure object of the sidecar
    retry_after: str | None = None
    answers: tuple[str, str] | None = None  # nonce and caller that the good answer is stamped with
    status: int | None = None


def see(sent: Sent, said: Said | None) -> Seen:
    """Read an answer off the wire; None if there was none.

    An answer in an event stream counts as soon as its event is whole, as it does for clients.
    """
    if said is None:
        return Seen(sent, Fate.LOST)
    headers = {name.lower(): value for name, value in said.headers}
    if not said.whole and not is_stream(headers):
        return Seen(sent, Fate.LOST, status=said.status)
    return see_parts(sent, said.status, headers, said.body)


def see_parts(sent: Sent, status: int, headers: Mapping[str, str], body: bytes) -> Seen:
    """Read an answer that somebody else has taken apart; names of headers are in lower case."""
    events = is_stream(headers)
    answer = last_answer(body) if events else parsed(body)
    hint = headers.get("retry-after")
    if answer is None and events and status == 200:
        return Seen(sent, Fate.LOST, status=status)  # a stream that ended without its answer
    details = failure_object(answer) if answer else None
    if details is not None:
        unsent = details.get("delivered") == "no"
        fate = Fate.NOT_DELIVERED if unsent else Fate.UNKNOWN
        return Seen(sent, fate, details, hint, status=status)
    text = success_in(answer) if answer and status == 200 else None
    if text is None:
        return Seen(sent, Fate.ANSWERED, status=status)
    return Seen(sent, Fate.DONE, answers=stamp(text), status=status)


def is_stream(headers: Mapping[str, str]) -> bool:
    return headers.get("content-type", "").startswith("text/event-stream")


def parsed(text: bytes) -> dict[str, Any] | None:
    """Return a JSON object, if the text is one."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def messages(body: bytes) -> list[dict[str, Any]]:
    """Return the JSON-RPC messages of an event stream, as far as it was whole."""
    events = body.replace(b"\r\n", b"\n").split(b"\n\n")[:-1]
    lines = [line for event in events for line in event.split(b"\n")]
    found = [parsed(line.removeprefix(b"data:")) for line in lines if line.startswith(b"data:")]
    return [message for message in found if message is not None]


def last_answer(body: bytes) -> dict[str, Any] | None:
    """Return the answer in an event stream, if it came."""
    answers = [one for one in messages(body) if "result" in one or "error" in one]
    return answers[-1] if answers else None


def failure_object(answer: dict[str, Any]) -> dict[str, Any] | None:
    """Return the sidecar's failure object from wherever the dialect puts it (DESIGN section 5)."""
    result, error = answer.get("result"), answer.get("error")
    places: list[Any] = [answer.get("error_details"), answer]
    if isinstance(result, dict):
        places.append((result.get("_meta") or {}).get(DETAILS))
    if isinstance(error, dict):
        places.append(error.get("data"))
    for place in places:
        if isinstance(place, dict) and place.get("origin") == "proxy":
            return place
    return None


def success_in(answer: dict[str, Any]) -> str | None:
    """Return the text of a success, or None if it is a failure."""
    if "success" in answer:
        return str(answer.get("data")) if answer["success"] is True else None
    result = answer.get("result")
    if not isinstance(result, dict) or result.get("isError"):
        return None
    content = result.get("content") or [{}]
    return str(content[0].get("text"))


def stamp(text: str) -> tuple[str, str]:
    """Return the nonce and the caller that the server wrote into its answer."""
    said = parsed(text.encode()) or {}
    return str(said.get("nonce")), str(said.get("caller"))
