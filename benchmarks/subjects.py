"""What the sidecar is measured against: the least that aiohttp can do for the same request."""

import asyncio
import json
import sys

import aiohttp
from aiohttp import web
from yarl import URL

ANSWER = (
    b'{"success":true,"data":"[{\\"id\\": 1, \\"name\\": \\"Acme Corporation\\"}]","error":null,'
    b'"timestamp":"2026-01-01T00:00:00+00:00"}'
)
RESULT = {"content": [{"type": "text", "text": "[{'id': 1, 'name': 'Acme Corporation'}]"}]}
HEADERS = {"Content-Type": "application/json"}
SESSION = web.AppKey("session", aiohttp.ClientSession)


async def fixed(request: web.Request) -> web.Response:
    """Read the request, give the same answer each time: the floor of a cached call."""
    await request.read()
    return web.Response(body=ANSWER, headers=HEADERS)


async def rpc(request: web.Request) -> web.Response:
    """Answer a JSON-RPC request with its own id: an MCP server that costs nothing."""
    asked = json.loads(await request.read() or b"{}")  # health probes have no body
    answer = {"jsonrpc": "2.0", "id": asked.get("id"), "result": RESULT}
    return web.Response(body=json.dumps(answer).encode(), headers=HEADERS)


def sessions():
    """Answer as `rpc` does, and open a session for whoever asks: they are counted, and never lost."""
    opened = 100_000  # six digits, as load.Request draws them

    async def answer(request: web.Request) -> web.Response:
        nonlocal opened
        asked = json.loads(await request.read() or b"{}")
        if asked.get("method") != "initialize":
            return await rpc(request)
        opened += 1
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}}
        result["serverInfo"] = {"name": "bench", "version": "1"}
        body = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode()
        return web.Response(body=body, headers={**HEADERS, "Mcp-Session-Id": f"s{opened}"})

    return answer


def passing(upstream: str):
    """Pass every request on and its answer back: the floor of an uncached call."""

    async def pass_on(request: web.Request) -> web.Response:
        session = request.app[SESSION]
        data = await request.read()
        headers = request.headers.copy()
        headers.pop("Host", None)
        async with session.request(
            request.method,
            URL(upstream + request.raw_path, encoded=True),
            data=data,
            headers=headers,
            allow_redirects=False,
        ) as response:
            body = await response.read()
            kept = response.headers.copy()
            for name in ("Transfer-Encoding", "Connection", "Keep-Alive"):
                kept.pop(name, None)
            return web.Response(status=response.status, headers=kept, body=body)

    return pass_on


def slow():
    """Answer after a second, and count: what a herd costs the server."""
    asked = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        if request.path == "/count":
            return web.Response(text=str(asked))
        if request.method != "POST" or request.path != "/api/call-tool":
            return web.Response(status=404)
        asked += 1
        await asyncio.sleep(1)
        return web.Response(body=ANSWER, headers=HEADERS)

    return answer


async def serve(kind: str, port: int, upstream: str) -> None:
    app = web.Application()
    answering = {
        "fixed": lambda: fixed,
        "rpc": lambda: rpc,
        "sessions": sessions,
        "slow": slow,
        "pass": lambda: passing(upstream),
    }[kind]
    app.router.add_route("*", "/{tail:.*}", answering())
    runner = web.AppRunner(app, access_log=None, auto_decompress=False)
    await runner.setup()
    if kind == "pass":
        app[SESSION] = aiohttp.ClientSession(
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=1024),
        )
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("listening", flush=True)
    await asyncio.Event().wait()


def sdk(port: int) -> None:
    """Serve one tool with the official SDK: over HTTP, or over stdio where there is no port."""
    from mcp.server import MCPServer  # noqa: PLC0415 - the other subjects do not need it

    server = MCPServer("bench", log_level="ERROR")

    @server.tool()
    def read_accounts(limit: int = 10) -> str:
        return "[{'id': 1, 'name': 'Acme Corporation'}]" * (limit > 0)

    @server.tool()
    def write_account(limit: int = 10) -> str:
        return "[{'id': 1, 'name': 'Acme Corporation'}]" * (limit > 0)

    if not port:
        server.run("stdio")
        return
    import uvicorn  # noqa: PLC0415

    app = server.streamable_http_app(json_response=True, stateless_http=True)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


if __name__ == "__main__" and sys.argv[1] == "sdk":
    sdk(int(sys.argv[2]))
elif __name__ == "__main__":
    work = serve(sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else "")
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)
