"""The tools of the salesforce service."""

import re
from typing import Annotated, Any

import anyio
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from examples.basic_server.backend import Backend
from examples.basic_server.records import Record

FROM = re.compile(r"\bfrom\s+(\w+)", re.IGNORECASE)
LIMIT = re.compile(r"\blimit\s+(\d+)", re.IGNORECASE)
QUOTED = re.compile(r"'%?([^'%]*)%?'")
ACCOUNTS_URI = "records://accounts"


def found(records: list[Record]) -> dict[str, Any]:
    """Return records in the shape in which every reading tool answers."""
    return {"total": len(records), "records": [record.flat() for record in records]}


class Salesforce:
    """Accounts, contacts and opportunities, behind tools that read and one that writes."""

    def __init__(self, backend: Backend) -> None:
        self._shelf = backend.salesforce
        self._ledger = backend.ledger
        self._connection = backend.connections["salesforce"]

    async def query(
        self,
        query: Annotated[str, Field(min_length=1, description="SOQL-like text, or plain words")],
    ) -> dict[str, Any]:
        """Find records: FROM names the object, quoted texts the name, LIMIT the number.

        Text without FROM is taken as words, each of which a record must mention.
        """
        kind, limit = FROM.search(query), LIMIT.search(query)
        words = QUOTED.findall(query) if kind else query.split()
        records = self._shelf.of(kind[1]) if kind else self._shelf.all()
        matching = [r for r in records if all(r.mentions(word) for word in words)]
        return found(matching[: int(limit[1])] if kind and limit else matching)

    async def query_accounts(
        self,
        limit: Annotated[int, Field(ge=1, le=200, description="How many at most")] = 50,
        name: Annotated[str, Field(description="Part of the name; empty means all")] = "",
    ) -> dict[str, Any]:
        """List accounts, the oldest first."""
        accounts = self._shelf.of("Account")
        wanted = [a for a in accounts if name.lower() in str(a.fields.get("name", "")).lower()]
        return found(wanted[:limit])

    async def connection_info(self) -> dict[str, Any]:
        """Tell what this service is connected to."""
        return {
            "service": "salesforce",
            "connected": self._connection.connected,
            "instance_url": "https://acme.example",
            "api_version": "64.0",
            "records": len(self._shelf),
        }

    async def create(
        self,
        object_type: Annotated[str, Field(min_length=1, description="For example Account")],
        fields: Annotated[dict[str, Any], Field(description="The new record's fields")],
        context: Context,
    ) -> dict[str, Any]:
        """Create a record. This writes: calling it twice makes two records."""
        if not fields:
            raise ToolError("a record needs at least one field")
        record = self._shelf.add(object_type, fields)
        self._ledger.write("salesforce_create", fields.get("nonce"), record.id)
        if object_type == "Account":
            await context.notify_resource_updated(ACCOUNTS_URI)
        return {"id": record.id, "created": True, "record": record.flat()}

    async def export(
        self,
        context: Context,
        steps: Annotated[int, Field(ge=1, le=1000, description="How many progress notes")] = 5,
        step_seconds: Annotated[float, Field(ge=0, le=60, description="Pause per step")] = 0.2,
    ) -> dict[str, Any]:
        """Export every record, slowly, and report progress after each step."""
        for step in range(1, steps + 1):
            await anyio.sleep(step_seconds)
            await context.report_progress(step, steps, f"step {step} of {steps}")
        return {"steps": steps, **found(self._shelf.all())}
