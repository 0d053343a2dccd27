"""The tools over REST, with chat, status and health."""

import json
import re
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from examples.basic_server.backend import Backend
from examples.basic_server.bodies import read_body
from examples.basic_server.connections import Connection
from examples.basic_server.timestamps import now
from examples.basic_server.tools import Tool

CREATE_ISSUE = re.compile(
    r"\s*create (?:an )?issue\b[\s:]*(?P<summary>.*)", re.IGNORECASE | re.DOTALL
)


class ToolCall(BaseModel):
    """The body of `POST /api/call-tool`."""

    service: str
    tool_name: str
    params: dict[str, Any] = Field(default_factory=dict)


class ChatMessage(BaseModel):
    """The body of `POST /api/chat`."""

    message: str


class RestFront:
    """Answer the REST requests; its tools are those of the MCP server, called in the process."""

    def __init__(self, backend: Backend, server: MCPServer, tools: tuple[Tool, ...]) -> None:
        self._backend = backend
        self._server = server
        self._services = {tool.name: tool.service for tool in tools if not tool.mcp_only}

    def routes(self) -> list[Route]:
        """Return the table of endpoints."""
        return [
            Route("/api/call-tool", self.call_tool, methods=["POST"]),
            Route("/api/chat", self.chat, methods=["POST"]),
            Route("/api/status/{service}", self.status),
            Route("/api/health", self.health),
            Route("/api/tools", self.tools),
        ]

    async def call_tool(self, request: Request) -> Response:
        """Run a tool; what goes wrong inside of it still arrives as HTTP 200."""
        call = await read_body(request, ToolCall)
        connection = self._connection(call.service)
        if connection.error is not None:
            raise HTTPException(503, connection.error)
        if self._services.get(call.tool_name) != call.service:
            return outcome(error=f"Unknown tool: {call.tool_name}")
        try:
            return outcome(data=await self._run(call.tool_name, call.params))
        except ToolError as error:
            return outcome(error=str(error))

    async def chat(self, request: Request) -> Response:
        """Answer a message; one that begins with "create issue" really creates one."""
        message = (await read_body(request, ChatMessage)).message
        wish = CREATE_ISSUE.match(message)
        try:
            return said(await self._created(wish["summary"]) if wish else self._counted())
        except ToolError as error:
            return said("I could not do that.", error=str(error))

    async def status(self, request: Request) -> Response:
        """Tell how one service is."""
        connection = self._connection(request.path_params["service"])
        return JSONResponse({"service": connection.service, **connection.state()})

    async def health(self, _: Request) -> Response:
        """Tell how this server and its services are."""
        connections = self._backend.connections
        away = {c.service for c in connections.values() if not c.connected}
        return JSONResponse(
            {
                "status": "degraded" if away else "healthy",
                "timestamp": now(),
                "connections": {name: c.state() for name, c in connections.items()},
                "available_tools": sum(s not in away for s in self._services.values()),
            }
        )

    async def tools(self, _: Request) -> Response:
        """List the tools that REST offers."""
        listed = [tool for tool in await self._server.list_tools() if tool.name in self._services]
        return JSONResponse(
            [
                {
                    "service": self._services[tool.name],
                    "name": tool.name,
                    "description": tool.description,
                    "input_schema": tool.input_schema,
                }
                for tool in listed
            ]
        )

    def _connection(self, service: str) -> Connection:
        connection = self._backend.connections.get(service)
        if connection is None:
            raise HTTPException(404, "Service not found")
        return connection

    async def _run(self, tool: str, params: dict[str, Any]) -> str:
        result = await self._server.call_tool(tool, params)
        assert isinstance(result, CallToolResult)
        return "".join(part.text for part in result.content if isinstance(part, TextContent))

    async def _created(self, summary: str) -> str:
        created = json.loads(await self._run("jira_create_issue", {"summary": summary.strip()}))
        return f"Created {created['key']}: {created['issue']['summary']}"

    def _counted(self) -> str:
        accounts, issues = self._backend.salesforce.of("Account"), self._backend.jira.all()
        return f"I know {len(accounts)} accounts and {len(issues)} issues."


def outcome(data: str | None = None, error: str | None = None) -> Response:
    """Return the answer to a tool call."""
    return JSONResponse(
        {"success": error is None, "data": data, "error": error, "timestamp": now()}
    )


def said(response: str, error: str | None = None) -> Response:
    """Return the answer to a chat message."""
    return JSONResponse(
        {"response": response, "success": error is None, "timestamp": now(), "error": error}
    )
