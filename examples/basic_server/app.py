"""The map: options in, one application with both fronts out."""

from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from examples.basic_server.backend import Backend
from examples.basic_server.bodies import BadBody, refuse_body
from examples.basic_server.control import Control
from examples.basic_server.faults import Faults
from examples.basic_server.faulty_wire import FaultyWire
from examples.basic_server.ledger import Ledger
from examples.basic_server.mcp_front import allowed_names, mcp_server
from examples.basic_server.rest_front import RestFront
from examples.basic_server.tools import all_tools


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line can say about the application."""

    ledger: Path | None = None
    allow_hosts: tuple[str, ...] = ()
    every_call_seconds: float = 0.0


async def refuse(_: Request, error: Exception) -> Response:
    """Answer an HTTP error as FastAPI servers do."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


def build(options: Options) -> Starlette:
    """Return the application, with records of its own."""
    backend = Backend(ledger=Ledger(options.ledger), faults=Faults(options.every_call_seconds))
    tools = all_tools(backend)
    server = mcp_server(backend, tools)
    mcp = server.streamable_http_app(transport_security=allowed_names(options.allow_hosts))
    return Starlette(
        routes=[
            *RestFront(backend, server, tools).routes(),
            *Control(backend, {tool.name for tool in tools}).routes(),
            *mcp.routes,
        ],
        middleware=[
            Middleware(
                CORSMiddleware,
                allow_origins=["*"],
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=["Mcp-Session-Id"],
            ),
            Middleware(FaultyWire, faults=backend.faults),
        ],
        exception_handlers={HTTPException: refuse, BadBody: refuse_body},
        # A mounted application's own lifespan would never be run.
        lifespan=lambda _: server.session_manager.run(),
    )
