"""How a list of layers becomes a road."""

import pytest

from mcp_proxy.core.call import Call, Reply
from mcp_proxy.core.errors import UpstreamBrokenError
from mcp_proxy.layers.chain import Forward, join
from tests.fakes import Script, call, error_of, reply


class Signing:
    """A layer that leaves its name on the call and on the reply."""

    def __init__(self, name: str, trace: list[str]) -> None:
        self._name = name
        self._trace = trace

    async def __call__(self, call: Call, forward: Forward) -> Reply:
        self._trace.append(f"{self._name} in")
        reply = await forward(call._replace(request_id=call.request_id + self._name))
        self._trace.append(f"{self._name} out")
        return reply


async def test_layers_are_walked_outermost_first_and_left_in_reverse() -> None:
    """DESIGN section 2: the list is written outermost first."""
    trace: list[str] = []
    origin = Script(reply())
    forward = join([Signing("a", trace), Signing("b", trace)], origin)
    await forward(call())
    assert trace == ["a in", "b in", "b out", "a out"]


async def test_each_layer_sees_the_call_as_the_one_outside_it_passed_it_on() -> None:
    origin = Script(reply())
    await join([Signing("a", []), Signing("b", [])], origin)(call())
    assert [seen.request_id for seen in origin.calls] == ["request-1ab"]


async def test_no_layers_leave_the_origin() -> None:
    """DESIGN section 2: a layer that is switched off is absent from the list."""
    origin = Script(answer := reply())
    assert await join([], origin)(call()) is answer


async def test_an_error_passes_through_layers_that_do_not_care() -> None:
    broken = error_of(UpstreamBrokenError)
    with pytest.raises(UpstreamBrokenError) as raised:
        await join([Signing("a", [])], Script(broken))(call())
    assert raised.value is broken
