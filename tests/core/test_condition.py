"""Whether a store is well, told once for each change."""

from mcp_proxy.core.condition import Condition
from mcp_proxy.signals.schemas import schema
from tests.fakes import Told


def test_each_change_is_told_once() -> None:
    told = Told()
    condition = Condition("redis", told)
    condition.note()
    assert condition.well
    for _ in range(3):
        condition.note(TimeoutError("its text may hold a secret"))
    assert not condition.well
    for _ in range(3):
        condition.note()
    changes = [(level, fields["after"], fields["reason"]) for _, level, fields in told.events]
    assert changes == [("error", "down", "TimeoutError"), ("info", "up", None)]
    assert condition.well


def test_what_is_told_is_what_its_schema_says() -> None:
    told = Told()
    condition = Condition("redis", told, "warning")
    condition.note(OSError())
    condition.note()
    reason = schema("store.state_changed")["properties"]["reason"]["type"]
    assert [level for _, level, _ in told.events] == ["warning", "info"]
    assert reason == ["string", "null"]
