"""What the MCP client of Strands Agents sees; runs in .venv-strands.

It takes the newest era that the server speaks; there is no choosing. It cannot answer sampling
(MCPClient takes no such callback), so `think` is left out.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from marks import PATIENCE_SECONDS, Marks, tell
from mcp.types import ElicitRequestParams, ElicitResult
from strands.tools.mcp import MCPClient


class Seen:
    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self.steps: list[Any] = []
        self.asked: list[str] = []
        self.told = threading.Event()

    async def progressed(self, progress: float, total: float | None, message: str | None) -> None:
        self.steps.append([progress, total, message])
        if progress == 1:
            await self.marks.later(self.marks.reach, "climb.seen")

    async def elicit(self, _: Any, params: ElicitRequestParams) -> ElicitResult:
        self.asked.append(params.message)
        return ElicitResult(action="accept", content={"colour": "blue"})

    def changed(self, *_: Any, **__: Any) -> None:
        self.told.set()


def call(client: MCPClient, tool: str, arguments: dict[str, Any] | None = None) -> Any:
    return client.call_tool_sync("one", tool, arguments or {})


def text_of(result: Any) -> str:
    return result["content"][0]["text"]


def calls(client: MCPClient, seen: Seen) -> dict[str, Any]:
    failed = call(client, "fail")
    return {
        "reads": [text_of(call(client, "look", {"what": "it"})) for _ in range(2)],
        "writes": [text_of(call(client, "note", {"text": name})) for name in ("one", "two")],
        "failed": [failed["status"] == "error", text_of(failed)],
        "climbed": text_of(call(client, "climb")),
        "steps": seen.steps,
        "painted": text_of(call(client, "paint", {"thing": "door"})),
        "asked": seen.asked,
    }


def cancel(client: MCPClient, marks: Marks) -> list[bool]:
    signal = threading.Event()
    with ThreadPoolExecutor() as threads:
        running = threads.submit(client.call_tool_sync, "two", "stay", {}, cancel_signal=signal)
        begun = marks.reached("stay.begun")
        signal.set()
        result = running.result(PATIENCE_SECONDS)
    return [begun, marks.reached("stay.cancelled"), bool(result.get("cancelled"))]


def listed(client: MCPClient) -> tuple[list[str], str]:
    tools = client.list_tools_sync()
    number = next(tool.tool_spec["description"] for tool in tools if tool.tool_name == "look")
    return sorted(tool.tool_name for tool in tools), number


def kept(client: MCPClient) -> bool:
    """Return whether two lists in a row are one and the same."""
    return (listed(client))[1] == (listed(client))[1]


def changes(client: MCPClient, seen: Seen) -> dict[str, Any]:
    before = [listed(client) for _ in range(2)]
    heard = seen.marks.grow()
    told = seen.told.wait(PATIENCE_SECONDS)
    after = listed(client)
    return {
        "lists": [before[0][0], before[1][0], after[0]],
        "kept": before[0][1] == before[1][1],
        "told": heard and told,
    }


def main(url: str, marks: Marks) -> dict[str, Any]:
    seen = Seen(marks)
    with MCPClient(
        url=url,
        elicitation_callback=seen.elicit,
        progress_callback=seen.progressed,
        on_tools_changed=seen.changed,
    ) as client:
        resource = client.read_resource_sync("clients://leaf")
        prompt = client.get_prompt_sync("greet", {"name": "Ada"})
        return {
            # It does not tell what it negotiated; the session that it drives does.
            "protocol": client._background_thread_session.protocol_version,
            **changes(client, seen),
            **calls(client, seen),
            "resources": [str(r.uri) for r in client.list_resources_sync().resources],
            "resource": resource.contents[0].text,
            "prompts": [p.name for p in client.list_prompts_sync().prompts],
            "prompt": prompt.messages[0].content.text,
            "kept_later": kept(client),
            # Last: after a call of unknown fate nothing is kept for a while.
            "cancelled": cancel(client, marks),
        }


tell(main(sys.argv[1], Marks(sys.argv[2])))
