"""A port of their own for our endpoints (MCP_OPS_PORT), which a firewall can tell from the other."""

from aiohttp import web

from mcp_proxy.edge.inbound import Inbound


class Ops:
    """Answer what operators ask, and nothing else: no request of this port reaches the server."""

    express = None

    def __init__(self, inbound: Inbound) -> None:
        self._inbound = inbound

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        return await self._inbound.answer_operator(request)
