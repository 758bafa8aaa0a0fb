"""`hf-agent completion`"""

from __future__ import annotations

import click

from hf_agent.cli.command import Command
from hf_agent.cli.completion import SHELLS, script
from hf_agent.cli.output import write_text

__all__ = ["completion"]


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Write the script with which SHELL completes this command.

    \b
    bash: hf-agent completion bash > /etc/bash_completion.d/hf-agent
    zsh:  hf-agent completion zsh > "${fpath[1]}/_hf-agent"
    fish: hf-agent completion fish > ~/.config/fish/completions/hf-agent.fish
    """
    group = ctx.find_root().command
    assert isinstance(group, click.Group)
    write_text(script(group, shell))
