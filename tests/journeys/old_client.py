"""What a client of `mcp` 1.30 does; runs in its own environment and prints what it saw as JSON."""

import asyncio
import json
import sys
from typing import Any

from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client


async def main(url: str) -> dict[str, Any]:
    steps = []

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    async with (
        streamablehttp_client(url) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        hello = await session.initialize()
        await session.list_tools()
        reads = [
            (await session.call_tool("salesforce_query_accounts", {"limit": 2})).content[0].text
            for _ in range(2)
        ]
        writes = [
            (
                await session.call_tool(
                    "salesforce_create", {"object_type": "Account", "fields": {"name": name}}
                )
            ).isError
            for name in ("one", "two")
        ]
        await session.call_tool("salesforce_export", {}, progress_callback=progressed)
        await session.list_resources()
        await session.list_prompts()
        await session.send_ping()
    return {
        "version": hello.protocolVersion,
        "reads": reads,
        "writes": writes,
        "progress": len(steps),
    }


print(json.dumps(asyncio.run(main(sys.argv[1]))))
