"""What a client of `mcp` 1.30 sees; runs in .venv-mcp1."""

import asyncio
import sys
from typing import Any

from marks import PATIENCE_SECONDS, Marks, tell
from mcp import ClientSession, McpError, types
from mcp.client.streamable_http import streamablehttp_client
from pydantic import AnyUrl


class Seen:
    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self.steps: list[Any] = []
        self.asked: list[str] = []
        self.told = asyncio.Event()

    async def progressed(self, progress: float, total: float | None, message: str | None) -> None:
        self.steps.append([progress, total, message])
        if progress == 1:
            await self.marks.later(self.marks.reach, "climb.seen")

    async def elicit(self, _: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        self.asked.append(params.message)
        return types.ElicitResult(action="accept", content={"colour": "blue"})

    async def sample(
        self, _: Any, params: types.CreateMessageRequestParams
    ) -> types.CreateMessageResult:
        self.asked.append(params.messages[0].content.text)
        thought = types.TextContent(type="text", text="forty-two")
        return types.CreateMessageResult(role="assistant", content=thought, model="none")

    async def message(self, message: Any) -> None:
        if isinstance(getattr(message, "root", None), types.ToolListChangedNotification):
            self.told.set()


async def calls(session: ClientSession, seen: Seen) -> dict[str, Any]:
    async def text(tool: str, **arguments: Any) -> str:
        return (await session.call_tool(tool, arguments)).content[0].text

    failed = await session.call_tool("fail", {})
    climbed = await session.call_tool("climb", {}, progress_callback=seen.progressed)
    return {
        "reads": [await text("look", what="it") for _ in range(2)],
        "writes": [await text("note", text=name) for name in ("one", "two")],
        "failed": [failed.isError, failed.content[0].text],
        "climbed": climbed.content[0].text,
        "steps": seen.steps,
        "painted": await text("paint", thing="door"),
        "thought": await text("think", topic="all"),
        "asked": seen.asked,
    }


async def cancel(session: ClientSession, marks: Marks) -> list[bool]:
    """Cancel as hosts on this SDK do: it has no call for it, and numbers requests from 0 on."""
    request_id = session._request_id
    running = asyncio.create_task(session.call_tool("stay", {}))
    begun = await marks.later(marks.reached, "stay.begun")
    params = types.CancelledNotificationParams(requestId=request_id)
    await session.send_notification(
        types.ClientNotification(
            types.CancelledNotification(method="notifications/cancelled", params=params)
        )
    )
    noticed = await marks.later(marks.reached, "stay.cancelled")
    try:
        await running
    except McpError as error:
        return [begun, noticed, str(error) == "Request cancelled"]
    return [begun, noticed, False]


async def listed(session: ClientSession) -> tuple[list[str], str]:
    tools = (await session.list_tools()).tools
    number = next(tool.description for tool in tools if tool.name == "look")
    return sorted(tool.name for tool in tools), number


async def kept(session: ClientSession) -> bool:
    """Return whether two lists in a row are one and the same."""
    return (await listed(session))[1] == (await listed(session))[1]


async def changes(session: ClientSession, seen: Seen) -> dict[str, Any]:
    before = [await listed(session) for _ in range(2)]
    heard = await seen.marks.later(seen.marks.grow)
    await asyncio.wait_for(seen.told.wait(), PATIENCE_SECONDS)
    after = await listed(session)
    return {
        "lists": [before[0][0], before[1][0], after[0]],
        "kept": before[0][1] == before[1][1],
        "told": heard,
    }


async def main(url: str, marks: Marks) -> dict[str, Any]:
    seen = Seen(marks)
    async with (
        streamablehttp_client(url) as (read, write, _),
        ClientSession(
            read,
            write,
            sampling_callback=seen.sample,
            elicitation_callback=seen.elicit,
            message_handler=seen.message,
        ) as session,
    ):
        hello = await session.initialize()
        resource = await session.read_resource(AnyUrl("clients://leaf"))
        prompt = await session.get_prompt("greet", {"name": "Ada"})
        return {
            "protocol": hello.protocolVersion,
            "server": hello.serverInfo.name,
            **await changes(session, seen),
            **await calls(session, seen),
            "resources": [str(r.uri) for r in (await session.list_resources()).resources],
            "resource": resource.contents[0].text,
            "prompts": [p.name for p in (await session.list_prompts()).prompts],
            "prompt": prompt.messages[0].content.text,
            "kept_later": await kept(session),
            # Last: after a call of unknown fate nothing is kept for a while.
            "cancelled": await cancel(session, marks),
        }


tell(asyncio.run(main(sys.argv[1], Marks(sys.argv[2]))))
