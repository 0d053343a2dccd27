"""What a caller saw is read right, in every dialect."""

import pytest

from tests.edge.wire import Said
from tests.kit.conftest import WRITE
from tests.kit.seen import Fate, see, see_parts

REFUSED = {"origin": "proxy", "delivered": "no", "retryable": True}
TEXT = '{"nonce": "n1", "caller": "Bearer ann"}'
RESULT = '{"jsonrpc": "2.0", "id": 1, "result": %s}'
CONTENT = '{"content": [{"type": "text", "text": "{\\"nonce\\": \\"n1\\"}"}], "isError": false}'
ERROR = '{"jsonrpc": "2.0", "id": 1, "error": {"code": 503, "message": "x", "data": %s}}'
DETAILS = '{"origin": "proxy", "delivered": "%s"}'
META = '{"isError": true, "content": [], "_meta": {"mcp_proxy/error": %s}}'
JSON, EVENTS = "application/json", "text/event-stream"


@pytest.mark.parametrize(
    ("status", "kind", "body", "fate"),
    [
        (200, JSON, '{"success": true, "data": "{}"}', Fate.DONE),
        (200, JSON, '{"success": false, "error": "x"}', Fate.ANSWERED),
        (
            503,
            JSON,
            '{"success": false, "error_details": %s}' % (DETAILS % "no"),
            Fate.NOT_DELIVERED,
        ),
        (
            200,
            JSON,
            '{"success": false, "error_details": %s}' % (DETAILS % "unknown"),
            Fate.UNKNOWN,
        ),
        (200, JSON, RESULT % CONTENT, Fate.DONE),
        (200, JSON, RESULT % '{"isError": true, "content": []}', Fate.ANSWERED),
        (200, JSON, RESULT % META % (DETAILS % "no"), Fate.NOT_DELIVERED),
        (200, JSON, RESULT % META % (DETAILS % "unknown"), Fate.UNKNOWN),
        (200, JSON, ERROR % (DETAILS % "unknown"), Fate.UNKNOWN),
        (200, JSON, ERROR % "null", Fate.ANSWERED),
        (200, EVENTS, f"event: message\ndata: {RESULT % CONTENT}\n\n", Fate.DONE),
        (200, EVENTS, f": x\n\ndata: {ERROR % (DETAILS % 'unknown')}\n\n", Fate.UNKNOWN),
        (200, EVENTS, f"data: {RESULT % CONTENT}\n", Fate.LOST),
        (200, EVENTS, ": nothing\n\n", Fate.LOST),
        (503, "application/problem+json", DETAILS % "no", Fate.NOT_DELIVERED),
        (500, "text/plain", "Internal Server Error", Fate.ANSWERED),
        (404, JSON, '{"detail": "Service not found"}', Fate.ANSWERED),
        (500, JSON, '{"success": true, "data": "{}"}', Fate.ANSWERED),
    ],
)
def test_a_fate_is_read_in_every_dialect(status: int, kind: str, body: str, fate: Fate) -> None:
    """DESIGN section 5."""
    seen = see_parts(WRITE, status, {"content-type": kind, "retry-after": "1"}, body.encode())
    assert seen.fate is fate
    assert (seen.details is not None) == (fate in {Fate.NOT_DELIVERED, Fate.UNKNOWN})
    assert (seen.retry_after == "1") == (seen.details is not None)


def test_no_whole_answer_is_no_answer() -> None:
    assert see(WRITE, None).fate is Fate.LOST
    cut = Said("HTTP/1.1 200 OK", [], b'{"success": true}', whole=False)
    assert see(WRITE, cut).fate is Fate.LOST
