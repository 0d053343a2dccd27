"""What has been ordered to go wrong, for which tool, and how often."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import anyio
from pydantic import BaseModel, Field

EVERY_TOOL = "*"


class Mode(StrEnum):
    """How a tool call goes wrong."""

    SLOW = "slow"
    HANG = "hang"
    ERROR = "error"
    CUT = "cut"
    FAIL = "fail"
    NONE = "none"


# `fail` is an answer of the tool itself; the others happen to the request that carries the call.
ON_THE_WIRE = frozenset({Mode.SLOW, Mode.HANG, Mode.ERROR, Mode.CUT})


class FaultOrder(BaseModel):
    """The body of `POST /control/faults`."""

    tool: str
    mode: Mode
    seconds: float = Field(default=1.0, ge=0, le=3600)
    times: int | None = Field(default=None, ge=1)


@dataclass(slots=True)
class Fault:
    """One order in force; it stays, spent, until it is replaced, because calls may hang on it."""

    order: FaultOrder
    left: int | None
    lifted: anyio.Event = field(default_factory=anyio.Event)

    def state(self) -> dict[str, Any]:
        """Return what the control endpoint shows."""
        return {**self.order.model_dump(mode="json"), "left": self.left}


class Faults:
    """Hold at most one fault for each tool and one for all of them; the tool's own goes first."""

    def __init__(self, every_call_seconds: float = 0.0) -> None:
        self.every_call_seconds = every_call_seconds
        self._by_tool: dict[str, Fault] = {}

    def obey(self, order: FaultOrder) -> None:
        """Put the order in force in place of the tool's earlier one; `none` only lifts that."""
        self._lift(order.tool)
        if order.mode is not Mode.NONE:
            self._by_tool[order.tool] = Fault(order, order.times)

    def clear(self) -> None:
        """Lift every fault and let go whatever hangs."""
        for tool in list(self._by_tool):
            self._lift(tool)

    def take(self, tool: str, modes: AbstractSet[Mode]) -> Fault | None:
        """Return the fault that strikes this call, if one of these modes does, and use it up."""
        for name in (tool, EVERY_TOOL):
            fault = self._by_tool.get(name)
            if fault is not None and fault.left != 0:
                return self._used(fault) if fault.order.mode in modes else None
        return None

    def in_force(self) -> list[dict[str, Any]]:
        """Return the faults that have not been used up."""
        return [fault.state() for fault in self._by_tool.values() if fault.left != 0]

    def _lift(self, tool: str) -> None:
        fault = self._by_tool.pop(tool, None)
        if fault is not None:
            fault.lifted.set()

    @staticmethod
    def _used(fault: Fault) -> Fault:
        if fault.left is not None:
            fault.left -= 1
        return fault
