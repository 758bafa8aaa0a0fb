"""Completion in shells: the scripts that ask for it, and the answers, both by click."""

from __future__ import annotations

from collections.abc import Mapping

import click

__all__ = ["SHELLS", "answer_shell", "script"]

SHELLS = ("bash", "zsh", "fish")
_PROGRAM = "hf-agent"
_VARIABLE = "_HF_AGENT_COMPLETE"
"""By it a script tells the command that completions are wanted, and for which shell."""


def answer_shell(group: click.Group, environment: Mapping[str, str]) -> int | None:
    """Write the completions that a shell's script asks for; None when none asks."""
    wanted = environment.get(_VARIABLE)
    if wanted is None:
        return None
    from click.shell_completion import shell_complete

    return shell_complete(group, {}, _PROGRAM, _VARIABLE, wanted)


def script(group: click.Group, shell: str) -> str:
    """What `shell`, one of `SHELLS`, has to run once to complete this command."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    complete = kind(group, {}, _PROGRAM, _VARIABLE)
    # Not `source()`: it runs bash to look at its version, and warns of what is newer than 2016.
    return complete.source_template % complete.source_vars()
