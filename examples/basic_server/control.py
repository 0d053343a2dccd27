"""Endpoints of the example only: see what was executed, order what shall go wrong."""

from collections.abc import Set as AbstractSet

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from examples.basic_server.backend import Backend
from examples.basic_server.bodies import read_body
from examples.basic_server.faults import EVERY_TOOL, FaultOrder


class ServiceOrder(BaseModel):
    """The body of `POST /control/service`."""

    service: str
    connected: bool


class Control:
    """The switches of the example."""

    def __init__(self, backend: Backend, tools: AbstractSet[str]) -> None:
        self._backend = backend
        self._tools = tools

    def routes(self) -> list[Route]:
        """Return the table of endpoints."""
        return [
            Route("/control/ledger", self.ledger),
            Route("/control/calls", self.calls),
            Route("/control/faults", self.faults, methods=["GET"]),
            Route("/control/faults", self.order_fault, methods=["POST"]),
            Route("/control/faults", self.clear_faults, methods=["DELETE"]),
            Route("/control/service", self.order_service, methods=["POST"]),
        ]

    async def ledger(self, _: Request) -> Response:
        """List the creates that were executed."""
        entries = self._backend.ledger.entries
        return JSONResponse({"creates": len(entries), "entries": entries})

    async def calls(self, _: Request) -> Response:
        """Count the executions of each tool."""
        by_tool = self._backend.calls.by_tool()
        return JSONResponse({"total": sum(by_tool.values()), "calls": by_tool})

    async def faults(self, _: Request) -> Response:
        """Show the faults in force."""
        faults = self._backend.faults
        return JSONResponse(
            {"every_call_seconds": faults.every_call_seconds, "faults": faults.in_force()}
        )

    async def order_fault(self, request: Request) -> Response:
        """Put a fault in force."""
        order = await read_body(request, FaultOrder)
        if order.tool != EVERY_TOOL and order.tool not in self._tools:
            raise HTTPException(404, "Tool not found")
        self._backend.faults.obey(order)
        return await self.faults(request)

    async def clear_faults(self, request: Request) -> Response:
        """Lift every fault."""
        self._backend.faults.clear()
        return await self.faults(request)

    async def order_service(self, request: Request) -> Response:
        """Cut the link to a service, or restore it."""
        order = await read_body(request, ServiceOrder)
        connection = self._backend.connections.get(order.service)
        if connection is None:
            raise HTTPException(404, "Service not found")
        connection.connected = order.connected
        return JSONResponse({"service": order.service, **connection.state()})
