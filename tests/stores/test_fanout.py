"""Events of several sidecars on one Redis stream."""

import json
import signal
from collections.abc import Callable

import pytest

from mcp_proxy.core.watching import Wanted
from mcp_proxy.layers.clock import SystemClock
from mcp_proxy.stores.fanout import Fanout
from tests.edge.wire import sidecar, unused_port
from tests.fakes import Told, spawn, within
from tests.stores.conftest import Server

pytestmark = pytest.mark.redis


class Bench:
    """One sidecar's end of the stream."""

    def __init__(self, server: Server, name: str) -> None:
        self.heard: list[bytes] = []
        self.told = Told()
        self.fanout = Fanout(
            server.url, "{test}:", name, SystemClock(), self.told, heard=self.heard.append
        )
        self._tasks = [
            spawn(self.fanout.send(), "send"),
            spawn(self.fanout.listen(), "listen"),
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self.fanout.aclose()


async def until(holds: Callable[[], object]) -> None:
    clock = SystemClock()
    while not holds():
        await clock.sleep(0.01)


async def test_each_hears_what_the_others_tell_and_not_itself(server: Server) -> None:
    ann, bob = Bench(server, "ann"), Bench(server, "bob")
    try:
        # whoever listens from "now" on has not heard what was told a moment ago: so until it is heard
        number = 0
        while not (ann.heard and bob.heard):
            number += 1
            ann.fanout.tell(json.dumps({"of": "ann", "number": number}).encode())
            bob.fanout.tell(json.dumps({"of": "bob", "number": number}).encode())
            await SystemClock().sleep(0.05)
        await within(until(lambda: b"ann" in bob.heard[-1]))
        assert all(json.loads(text)["of"] == "bob" for text in ann.heard)
        assert all(json.loads(text)["of"] == "ann" for text in bob.heard)
        assert ann.told.events == []
    finally:
        await ann.close()
        await bob.close()


async def test_the_stream_is_bounded(server: Server) -> None:
    ann = Bench(server, "ann")
    try:
        for _ in range(7):
            for _ in range(2_000):
                ann.fanout.tell(b"{}")
            await within(until(lambda: not ann.fanout._waiting))
        await within(until(lambda: server.raw().xlen("{test}:events") >= 10_000))
        assert server.raw().xlen("{test}:events") < 12_000
    finally:
        await ann.close()


async def test_what_does_not_fit_is_lost_and_counted(server: Server) -> None:
    ann = Bench(server, "ann")
    for _ in range(2_500):
        ann.fanout.tell(b"{}")
    assert ann.fanout.lost == 500
    await ann.close()


async def test_trouble_with_redis_is_told_once_and_holds_nobody_up(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F24: events of others are lost, and nothing else."""
    monkeypatch.setattr("mcp_proxy.stores.fanout._TIMEOUT", 1.5)
    monkeypatch.setattr("mcp_proxy.stores.fanout._PAUSE", 0.05)
    ann = Bench(server, "ann")
    try:
        server.send(signal.SIGSTOP)
        ann.fanout.tell(b"{}")
        await within(until(lambda: ann.told.events), 20)
        await within(until(lambda: ann.fanout.lost), 20)
        server.send(signal.SIGCONT)
        await within(until(lambda: len(ann.told.events) > 1), 20)
        assert [fields["after"] for _, _, fields in ann.told.events] == ["down", "up"]
    finally:
        server.send(signal.SIGCONT)
        await ann.close()


async def test_each_sidecar_tells_the_events_of_all(server: Server) -> None:
    """MCP_EVENTS_FANOUT=redis: in its live stream, and not in its log."""
    url = f"http://localhost:{unused_port()}"
    shared = {"REDIS_URL": server.url, "MCP_EVENTS_FANOUT": "redis"}
    async with sidecar(url, **shared) as one, sidecar(url, **shared) as other:
        one.sidecar.start()
        other.sidecar.start()

        def seen() -> list[dict[str, object]]:
            shown = other.sidecar.events.read(0, Wanted(), 1_000).events
            return [json.loads(text) for _, name, text in shown if name == "test.told"]

        while not seen():
            one.sidecar.emit("test.told", "info", number=1)
            await SystemClock().sleep(0.05)
        assert {event["replica"] for event in seen()} == {one.sidecar.pseudonym}
        assert "test.told" not in {event["event"] for event in other.told()}


async def test_without_redis_there_is_none() -> None:
    """And `run` and `check` warn of it (mcp_proxy/cautions)."""
    async with sidecar(f"http://localhost:{unused_port()}", MCP_EVENTS_FANOUT="redis") as alone:
        assert alone.sidecar.fanout is None
