"""`mcp-sidecar demo`: an outage in one terminal."""

import asyncio
import sys
from typing import Any

import click

from mcp_proxy.commands.children import StartError, quietly_interrupted, run
from mcp_proxy.commands.options import FAILED, as_json
from mcp_proxy.commands.output import say_json
from mcp_proxy.commands.story import Heard, Step, played, staged
from mcp_proxy.layers.clock import SystemClock


@click.command
@click.option("--keep", is_flag=True, help="Leave all running after the story, until Ctrl-C.")
@as_json
def command(*, keep: bool, as_json: bool) -> None:
    """Show a miss, a hit, an outage and a recovery, with a small server of its own.

    Server and sidecar take free ports on this machine, and end with the command. Exit 1 if a step
    does not go as it should. With --json: one object, when the story is over.
    """
    steps: list[Step] = []
    try:
        run(lambda: _played(steps, keep=keep, as_json=as_json))
    except StartError as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        if not keep:
            quietly_interrupted()
    if not all(step.ok for step in steps):
        sys.exit(FAILED)


async def _played(steps: list[Step], *, keep: bool, as_json: bool) -> None:
    async with staged(SystemClock()) as stage:
        click.echo(f"sidecar {stage.url}, dashboard {stage.url}/dashboard", err=True)
        async for step in played(stage, _tell):
            steps.append(step)
            if not as_json:
                _show(step)
        if as_json:
            say_json(_summary(stage.url, steps))
            sys.stdout.flush()
        if keep:
            _tell("all is left running; Ctrl-C ends it")
            await asyncio.Event().wait()


def _summary(url: str, steps: list[Step]) -> dict[str, Any]:
    return {
        "sidecar": url,
        "dashboard": f"{url}/dashboard",
        "ok": all(step.ok for step in steps),
        "steps": [step.shown() for step in steps],
    }


def _tell(text: str) -> None:
    click.echo(f"… {text}", err=True)


def _show(step: Step) -> None:
    click.echo(f"{step.name:9} {step.said}" + ("" if step.ok else "  -- NOT AS IT SHOULD BE"))
    if step.heard is not None:
        for line in _lines(step.heard):
            click.echo(f"          {line}")


def _lines(heard: Heard) -> list[str]:
    lines = [f"{heard.took_ms:.1f} ms: {heard.text}"]
    if heard.cache:
        lines.append(f"Cache-Status: {heard.cache}")
    if heard.error is not None:
        told = ("code", "delivered", "retryable", "retry_after_ms")
        lines.append(", ".join(f"{name} {heard.error.get(name)}" for name in told))
    return lines
