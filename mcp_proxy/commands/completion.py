"""`mcp-sidecar completion`: what makes a shell complete our commands and options."""

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

_NAME = "mcp-sidecar"
_SHELLS: dict[str, type[ShellComplete]] = {
    "bash": BashComplete,
    "zsh": ZshComplete,
    "fish": FishComplete,
}


@click.command(
    epilog="""\b
bash: eval "$(mcp-sidecar completion bash)"       in ~/.bashrc
zsh:  eval "$(mcp-sidecar completion zsh)"        in ~/.zshrc
fish: mcp-sidecar completion fish | source        in ~/.config/fish/config.fish"""
)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a shell's completion script."""
    # what the shell asks with, as click derives it from the program's name
    variable = f"_{_NAME}_COMPLETE".replace("-", "_").upper()
    complete = _SHELLS[shell](ctx.find_root().command, {}, _NAME, variable)
    # its own source() starts bash to look at its version first
    click.echo(complete.source_template % complete.source_vars())
