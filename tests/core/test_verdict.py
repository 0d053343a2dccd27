"""How did it go, by the status alone."""

import pytest

from mcp_proxy.core.verdict import Verdict, judge_status


@pytest.mark.parametrize("hinted", [False, True])
@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ([200, 201, 202, 204, 206, 301, 304, 307, 399], Verdict.OK),
        ([400, 401, 403, 404, 405, 413, 421, 428, 430, 499], Verdict.CLIENT_FAULT),
        ([429], Verdict.BUSY),
        ([500, 501, 502, 504, 599], Verdict.UPSTREAM_FAILED),
    ],
)
def test_a_status_is_judged_as_the_contract_says(
    statuses: list[int], verdict: Verdict, hinted: bool
) -> None:
    """DESIGN section 4, Verdict."""
    assert {judge_status(status, hinted=hinted) for status in statuses} == {verdict}


@pytest.mark.parametrize(
    ("hinted", "verdict"), [(True, Verdict.BUSY), (False, Verdict.UPSTREAM_FAILED)]
)
def test_a_503_is_a_request_to_wait_only_when_it_says_so(hinted: bool, verdict: Verdict) -> None:
    """DESIGN section 4: 503 with Retry-After is neutral, without one a failure."""
    assert judge_status(503, hinted=hinted) is verdict
