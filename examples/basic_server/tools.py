"""The table of tools, and the gate that every call of a tool goes through."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from mcp.server.mcpserver.exceptions import ToolError

from examples.basic_server.backend import Backend
from examples.basic_server.faults import Mode
from examples.basic_server.jira import Jira
from examples.basic_server.salesforce import Salesforce

ToolFunction = Callable[..., Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Tool:
    """One line of the table."""

    service: str
    name: str
    run: ToolFunction
    writes: bool = False
    mcp_only: bool = False


def all_tools(backend: Backend) -> tuple[Tool, ...]:
    """Return every tool of both services."""
    salesforce, jira = Salesforce(backend), Jira(backend)
    return (
        Tool("salesforce", "salesforce_query", salesforce.query),
        Tool("salesforce", "salesforce_query_accounts", salesforce.query_accounts),
        Tool("salesforce", "salesforce_connection_info", salesforce.connection_info),
        Tool("salesforce", "salesforce_create", salesforce.create, writes=True),
        # REST has no way to report progress, so the long-running one is offered over MCP alone.
        Tool("salesforce", "salesforce_export", salesforce.export, mcp_only=True),
        Tool("jira", "jira_search_issues", jira.search_issues),
        Tool("jira", "jira_get_issue", jira.get_issue),
        Tool("jira", "jira_create_issue", jira.create_issue, writes=True),
    )


def gated(tool: Tool, backend: Backend) -> ToolFunction:
    """Return the tool behind its gate: refused while it must not work, counted when it runs."""
    connection = backend.connections[tool.service]

    # The SDK reads the schema from the signature, which `wraps` keeps.
    @wraps(tool.run)
    async def run(*args: Any, **kwargs: Any) -> dict[str, Any]:
        if connection.error is not None:
            raise ToolError(connection.error)
        if backend.faults.take(tool.name, {Mode.FAIL}):
            raise ToolError("told to fail")
        backend.calls.count(tool.name)
        connection.touch()
        return await tool.run(*args, **kwargs)

    return run
