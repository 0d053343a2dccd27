"""A collector of traces on loopback: what OTLP/HTTP brings, byte for byte and decoded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from tests.edge.wire import GONE, Said, answer, bound, read_body, read_head


class Collector:
    """Takes exports; one that hangs takes them, and never answers."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.got: list[Said] = []
        self._hangs = hangs
        self._came = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                said = await read_head(reader)
                await read_body(reader, said, to_eof=False)
                async with self._came:
                    self.got.append(said)
                    self._came.notify_all()
                if self._hangs:
                    await asyncio.Event().wait()
                writer.write(answer(kind="application/x-protobuf"))
                await writer.drain()
        except GONE:
            pass
        finally:
            writer.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Listen; the value is what OTEL_EXPORTER_OTLP_ENDPOINT is to say."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, exports: int) -> None:
        """Wait for so many exports."""
        async with bound(20), self._came:
            await self._came.wait_for(lambda: len(self.got) >= exports)

    @property
    def resources(self) -> list[dict[str, Any]]:
        """Return what each export says of who made its spans."""
        return [values(group.resource.attributes) for group in self._groups()]

    @property
    def spans(self) -> list[Any]:
        """Return all spans, decoded."""
        return [
            span for group in self._groups() for scope in group.scope_spans for span in scope.spans
        ]

    def _groups(self) -> list[Any]:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )

        return [
            group
            for said in self.got
            for group in ExportTraceServiceRequest.FromString(said.body).resource_spans
        ]


def values(attributes: Any) -> dict[str, Any]:
    """Return decoded attributes."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
