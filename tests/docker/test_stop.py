"""The end of the pair; in a file of its own, that comes last: the others need it running."""

import pytest

from tests.docker.engine import GRACE

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]


def test_stop_ends_both_in_good_order_and_within_the_grace(pair):
    both = [pair.container(service) for service in ("mcp-proxy", "basic-server")]
    pair.compose("stop", limit=GRACE)
    assert [pair.inspect(one, "State", "ExitCode") for one in both] == [0, 0]
    assert "proxy.draining" in pair.docker("logs", both[0]).stdout
