"""The tools that the server under test offers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCHEMA = {"type": "object", "properties": {"nonce": {"type": "string"}}}


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool, and what the server says of it."""

    name: str
    service: str = "jira"
    read_only: bool = False
    idempotent: bool = False

    @property
    def once(self) -> bool:
        """Tell whether one call of it may be executed once at most."""
        return not (self.read_only or self.idempotent)

    def mcp(self) -> dict[str, Any]:
        """Return its entry in `tools/list`."""
        hints = {"readOnlyHint": self.read_only, "idempotentHint": self.idempotent}
        listed = {"name": self.name, "description": self.name, "inputSchema": SCHEMA}
        return {**listed, "annotations": hints}

    def rest(self) -> dict[str, Any]:
        """Return its entry in `GET /api/tools`."""
        listed = {"service": self.service, "name": self.name, "description": self.name}
        return {**listed, "input_schema": SCHEMA}


# The basic server's names, so that config/mcp_proxy.toml has rules for them.
TOOLS = (
    Tool("salesforce_query", "salesforce", read_only=True),
    Tool("salesforce_query_accounts", "salesforce", read_only=True),
    Tool("salesforce_create", "salesforce"),
    Tool("jira_search_issues", read_only=True),
    Tool("jira_get_issue", read_only=True),
    Tool("jira_set_status", idempotent=True),
    Tool("jira_create_issue"),
)
Tools = Mapping[str, Tool]
