"""The ports to time, tasks and listeners: what stands behind them has their shape."""

import inspect

import pytest

from mcp_proxy.core.clock import Clock, Emit, Spawn
from mcp_proxy.layers.clock import SystemClock, Tasks
from mcp_proxy.signals.logs import Log
from tests import fakes


def parameters(function: object) -> list[tuple[str, object, object]]:
    assert callable(function)
    return [
        (parameter.name, parameter.kind, parameter.default)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name != "self"
    ]


@pytest.mark.parametrize(
    ("port", "behind"),
    [
        (Clock, SystemClock),
        (Clock, fakes.FakeClock),
        (Emit, Log),
        (Emit, fakes.Told),
        (Spawn, Tasks),
        (Spawn, fakes.spawn),
    ],
)
def test_what_stands_behind_a_port_can_be_called_as_the_port_says(
    port: type, behind: object
) -> None:
    """House style section 8: tests hand in a clock; mypy holds the real ones, this the fakes."""
    for name, asked in inspect.getmembers(port, inspect.isfunction):
        if name == "__call__" and inspect.isfunction(behind):
            assert parameters(behind) == parameters(asked)
        elif not name.startswith("_") or name == "__call__":
            assert parameters(getattr(behind, name)) == parameters(asked)
