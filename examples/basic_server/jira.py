"""The tools of the jira service."""

from typing import Annotated, Any

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from examples.basic_server.backend import Backend


class Jira:
    """Issues, behind tools that read and one that writes."""

    def __init__(self, backend: Backend) -> None:
        self._shelf = backend.jira
        self._ledger = backend.ledger

    async def search_issues(
        self,
        query: Annotated[str, Field(description="Words, all of which an issue must mention")] = "",
        limit: Annotated[int, Field(ge=1, le=200, description="How many at most")] = 50,
    ) -> dict[str, Any]:
        """Find issues by words; no words finds all."""
        words = query.split()
        issues = [i for i in self._shelf.all() if all(i.mentions(word) for word in words)]
        return {"total": len(issues), "issues": [issue.flat() for issue in issues[:limit]]}

    async def get_issue(
        self, key: Annotated[str, Field(description="For example OPS-1")]
    ) -> dict[str, Any]:
        """Return one issue."""
        issue = self._shelf.find(key)
        if issue is None:
            raise ToolError(f"issue {key} does not exist")
        return issue.flat()

    async def create_issue(
        self,
        summary: Annotated[str, Field(min_length=1, description="One line")],
        description: Annotated[str, Field(description="More lines")] = "",
        project: Annotated[str, Field(description="Project key")] = "OPS",
        nonce: Annotated[str, Field(description="Written to the ledger, to find it again")] = "",
    ) -> dict[str, Any]:
        """Create an issue. This writes: calling it twice makes two issues."""
        fields = {"summary": summary, "description": description, "project": project}
        issue = self._shelf.add("Issue", {**fields, "status": "To Do"})
        self._ledger.write("jira_create_issue", nonce or None, issue.id)
        return {"key": issue.id, "created": True, "issue": issue.flat()}
