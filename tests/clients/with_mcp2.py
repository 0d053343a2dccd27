"""What a client of `mcp` 2.3 sees, in either era; runs in .venv."""

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import Any

from marks import PATIENCE_SECONDS, Marks, tell
from mcp import types
from mcp.client import Client


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
        if isinstance(message, types.ToolListChangedNotification):
            self.told.set()


async def calls(client: Client, seen: Seen) -> dict[str, Any]:
    async def text(tool: str, **arguments: Any) -> str:
        return (await client.call_tool(tool, arguments)).content[0].text

    failed = await client.call_tool("fail", {})
    climbed = await client.call_tool("climb", {}, progress_callback=seen.progressed)
    return {
        "reads": [await text("look", what="it") for _ in range(2)],
        "writes": [await text("note", text=name) for name in ("one", "two")],
        "failed": [failed.is_error, failed.content[0].text],
        "climbed": climbed.content[0].text,
        "steps": seen.steps,
        "painted": await text("paint", thing="door"),
        "thought": await text("think", topic="all"),
        "asked": seen.asked,
    }


async def cancel(client: Client, marks: Marks) -> list[bool]:
    running = asyncio.create_task(client.call_tool("stay", {}))
    begun = await marks.later(marks.reached, "stay.begun")
    running.cancel()
    await asyncio.wait([running], timeout=PATIENCE_SECONDS)
    return [begun, await marks.later(marks.reached, "stay.cancelled"), running.cancelled()]


async def listed(client: Client) -> tuple[list[str], str]:
    tools = (await client.list_tools()).tools
    number = next(tool.description for tool in tools if tool.name == "look")
    return sorted(tool.name for tool in tools), number


async def kept(client: Client) -> bool:
    """Return whether two lists in a row are one and the same."""
    return (await listed(client))[1] == (await listed(client))[1]


async def changes(client: Client, seen: Seen) -> dict[str, Any]:
    before = [await listed(client) for _ in range(2)]
    async with AsyncExitStack() as stack:
        if client.protocol_version >= "2026":
            listening = await stack.enter_async_context(client.listen(tools_list_changed=True))
        heard = await seen.marks.later(seen.marks.grow)
        async with asyncio.timeout(PATIENCE_SECONDS):
            if client.protocol_version >= "2026":
                await anext(aiter(listening))
            else:
                await seen.told.wait()
        after = await listed(client)
    return {
        "lists": [before[0][0], before[1][0], after[0]],
        "kept": before[0][1] == before[1][1],
        "told": heard,
    }


async def main(url: str, marks: Marks, mode: str) -> dict[str, Any]:
    seen = Seen(marks)
    async with Client(
        url,
        mode=mode,
        # Its own cache would hide the sidecar's.
        cache=None,
        sampling_callback=seen.sample,
        elicitation_callback=seen.elicit,
        message_handler=seen.message,
    ) as client:
        resource = await client.read_resource("clients://leaf")
        prompt = await client.get_prompt("greet", {"name": "Ada"})
        return {
            "protocol": client.protocol_version,
            "server": client.server_info and client.server_info.name,
            **await changes(client, seen),
            **await calls(client, seen),
            "resources": [r.uri for r in (await client.list_resources()).resources],
            "resource": resource.contents[0].text,
            "prompts": [p.name for p in (await client.list_prompts()).prompts],
            "prompt": prompt.messages[0].content.text,
            "kept_later": await kept(client),
            # Last: after a call of unknown fate nothing is kept for a while.
            "cancelled": await cancel(client, marks),
        }


tell(asyncio.run(main(sys.argv[1], Marks(sys.argv[2]), sys.argv[3])))
