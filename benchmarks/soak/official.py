"""Clients that are built with the official SDK, in both eras; they come, call and go."""

import asyncio
import json
from contextlib import suppress
from random import Random
from typing import Any

import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from benchmarks.soak.verdicts import Verdicts, with_hint
from tests.kit.seen import Fate, Seen, see_parts
from tests.kit.sent import Sent

MODES = ("legacy", "2026-07-28", "auto")
TOOLS = ("jira_create_issue", "salesforce_create", "jira_get_issue", "salesforce_query")
CALLS = 25  # of one client
_PAUSE = 0.3  # seconds between two calls, at most
_BACK = 1.0  # seconds until the next client after one whose handshake failed


class Official:
    """One such client after the other."""

    def __init__(self, number: int, url: str, patience: float, verdicts: Verdicts) -> None:
        self._number = number
        self._url = url
        self._patience = patience
        self._verdicts = verdicts
        self._rng = Random(number)
        self._calls = 0

    async def come_and_go(self) -> None:
        """Go on until cancelled."""
        mode = MODES[self._number % len(MODES)]
        while True:
            # a group of errors is what its transport raises when the server is away
            with suppress(Exception):
                await self._be_one(mode)
            await asyncio.sleep(_BACK)

    async def _be_one(self, mode: Any) -> None:
        caller = f"Bearer official-{self._number}"
        async with (
            httpx2.AsyncClient(headers={"Authorization": caller}, timeout=self._patience) as http,
            Client(
                streamable_http_client(self._url, http_client=http),
                mode=mode,
                read_timeout_seconds=self._patience,
            ) as client,
        ):
            self._verdicts.counted[f"official clients, {mode}"] += 1
            await client.list_tools()
            for _ in range(CALLS):
                self._calls += 1
                sent = Sent(f"o{self._number}-{self._calls}", self._rng.choice(TOOLS), caller)
                await self._call(client, sent)
                await asyncio.sleep(self._rng.random() * _PAUSE)

    async def _call(self, client: Client, sent: Sent) -> None:
        seen = Seen(sent, Fate.LOST)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            result = await client.call_tool(sent.tool, sent.arguments)
            said = {"result": result.model_dump(by_alias=True, mode="json")}
            seen = with_hint(see_parts(sent, 200, {}, json.dumps(said).encode()))
        finally:
            self._verdicts.told(seen)
            if loop.time() - began >= self._patience:
                self._verdicts.hung(f"{sent} of the SDK", loop.time() - began)
