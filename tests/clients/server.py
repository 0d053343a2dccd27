"""A server for foreign clients: every feature that a client can use, and marks to wait for.

Nothing here knows of the sidecar. Tools wait for marks instead of for time: a client sets a mark
over plain HTTP (`POST /marks/NAME`) once it has seen something, and asks whether the server has
seen something (`GET /marks/NAME`, answered as soon as it has).
"""

import asyncio
import collections
import socket
from typing import Annotated, Any

import uvicorn
from mcp.server.caching import CacheHint
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context, Elicit, MCPServer, Resolve, Sample
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.subscriptions import InMemorySubscriptionBus, ToolsListChanged
from mcp.types import CreateMessageResult, SamplingMessage, TextContent
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Longer than anything that works takes; shorter than any client's own patience.
PATIENCE_SECONDS = 15
# Without a hint nobody may keep a list of the 2026-07-28 era.
KEPT = CacheHint(ttl_ms=60_000, scope="private")

marks: dict[str, asyncio.Event] = collections.defaultdict(asyncio.Event)
runs: collections.Counter[str] = collections.Counter()
methods: collections.Counter[str] = collections.Counter()
sessions: dict[str, Any] = {}
streams: set[str] = set()
listening = asyncio.Event()


async def happened(event: asyncio.Event) -> bool:
    try:
        await asyncio.wait_for(event.wait(), PATIENCE_SECONDS)
    except TimeoutError:
        return False
    return True


class Bus(InMemorySubscriptionBus):
    """The SDK's own, which also tells that somebody listens."""

    def subscribe(self, listener: Any) -> Any:
        unsubscribe = super().subscribe(listener)
        listening.set()
        return unsubscribe


class Numbered(MCPServer):
    """A server whose tool list tells how often it was made, so that a kept list is recognised."""

    async def list_tools(self) -> Any:
        runs["tools/list"] += 1
        tools = await super().list_tools()
        for tool in tools:
            if tool.name == "look":
                tool.description = f"Look something up; list {runs['tools/list']}"
        return tools


async def count(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    methods[ctx.method] += 1
    session_id = ctx.request.headers.get("mcp-session-id") if ctx.request is not None else None
    if session_id:
        sessions[session_id] = ctx.session
    return await call_next(ctx)


bus = Bus()
server = Numbered(
    "clients",
    log_level="WARNING",
    cache_hints={"tools/list": KEPT, "resources/list": KEPT, "prompts/list": KEPT},
    subscriptions=bus,
    middleware=[count],
)


@server.tool()
async def look(what: str) -> str:
    """Look something up (the settings of the sidecar call this one read_only)."""
    runs["look"] += 1
    return f"{what} is here"


@server.tool()
async def note(text: str) -> str:
    """Write something down."""
    runs["note"] += 1
    return f"{text} is note {runs['note']}"


@server.tool()
async def fail() -> str:
    """Fail, as tools do."""
    runs["fail"] += 1
    raise ToolError("it does not work")


@server.tool()
async def climb(ctx: Context) -> str:
    """Tell the first step, and go on only when the client says that it has seen it."""
    runs["climb"] += 1
    await ctx.report_progress(1, 3, "one")
    if not await happened(marks["climb.seen"]):
        raise TimeoutError("nobody saw the first step")
    await ctx.report_progress(2, 3, "two")
    await ctx.report_progress(3, 3, "three")
    return "top"


@server.tool()
async def stay() -> str:
    """Stay until cancelled."""
    runs["stay"] += 1
    marks["stay.begun"].set()
    try:
        await happened(marks["never"])
    except asyncio.CancelledError:
        marks["stay.cancelled"].set()
        raise
    return "nobody cancelled"


class Colour(BaseModel):
    colour: str


def which_colour(thing: str) -> Elicit[Colour]:
    return Elicit(f"Which colour has the {thing}?", Colour)


@server.tool()
async def paint(thing: str, answer: Annotated[Colour, Resolve(which_colour)]) -> str:
    """Ask the user for a colour, in the middle of the call."""
    runs["paint"] += 1
    return f"the {thing} is {answer.colour}"


def a_thought(topic: str) -> Sample:
    question = SamplingMessage(role="user", content=TextContent(type="text", text=topic))
    return Sample([question], max_tokens=9)


@server.tool()
async def think(topic: str, thought: Annotated[CreateMessageResult, Resolve(a_thought)]) -> str:
    """Ask the client's model, in the middle of the call."""
    runs["think"] += 1
    return f"{topic}: {thought.content.text}"


async def grown() -> str:
    return "grown"


@server.resource("clients://leaf", name="leaf", mime_type="text/plain")
def leaf() -> str:
    """A resource."""
    return "green"


@server.prompt()
def greet(name: str) -> str:
    """A prompt."""
    return f"Say hello to {name}."


@server.custom_route("/marks/{name}", methods=["GET"])
async def ask_mark(request: Request) -> JSONResponse:
    return JSONResponse(await happened(marks[request.path_params["name"]]))


@server.custom_route("/marks/{name}", methods=["POST"])
async def set_mark(request: Request) -> JSONResponse:
    marks[request.path_params["name"]].set()
    return JSONResponse(content=True)


@server.custom_route("/counts", methods=["GET"])
async def counts(_: Request) -> JSONResponse:
    return JSONResponse({"runs": runs, "methods": methods})


@server.custom_route("/grow", methods=["POST"])
async def grow(_: Request) -> JSONResponse:
    """Gain a tool behind every client's back, and tell those who listen."""
    heard = await happened(listening)
    server.add_tool(grown)
    await bus.publish(ToolsListChanged())
    for session_id in streams:
        await sessions[session_id].send_tool_list_changed()
    return JSONResponse(heard)


class Listeners:
    """Know which handshake-era sessions have their own stream open: others cannot be told."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != "/mcp":
            await self._app(scope, receive, send)
            return
        session_id = dict(scope["headers"]).get(b"mcp-session-id", b"").decode()

        async def sent(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start" and message["status"] == 200:
                streams.add(session_id)
                listening.set()

        try:
            await self._app(scope, receive, sent)
        finally:
            streams.discard(session_id)


if __name__ == "__main__":
    # The address is bound before anybody is told of it, so that the first connect cannot fail.
    bound = socket.create_server(("127.0.0.1", 0))
    print(bound.getsockname()[1], flush=True)
    app = Listeners(server.streamable_http_app())
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[bound])
