"""A configuration to begin with: every key with its meaning, those with a default commented out."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from hf_agent.config.keys import Key, keys

__all__ = ["STORES", "example"]

STORES = {
    "directory": "file:///var/lib/hf-agent/store",
    "s3": "s3://${HF_AGENT_BUCKET}/logs",
}
"""Kinds of store, each with a URL to begin with."""

_STREAMS = {"lines": "{first_line}", "forward": "{tag}", "syslog": "syslog"}
_SOCKETS = "/run/hf-agent"
_WIDTH = 98
_HEAD = """\
# Configuration of hf-agent. Every key is here; one behind a "#" without a space is commented out
# and shows what holds without it."""
_COMPUTED = {"agent.node": '"${HOSTNAME}"', "wal.dir": '"/var/lib/hf-agent/wal"'}
"""What to show for defaults that no literal is."""


def example(protocols: Sequence[str], store: str) -> str:
    """TOML text with a socket for each of `protocols`, and a store of a kind in `STORES`.

    It can be used as it is where its directories can be made and, for S3, HF_AGENT_BUCKET is set.
    """
    tables: dict[str, list[Key]] = {}
    for key in keys():
        tables.setdefault(key.name.rpartition(".")[0], []).append(key)
    parts = [_HEAD, _table("[agent]", tables["agent"], {})]
    for protocol in protocols:
        given = {"path": f"{_SOCKETS}/{protocol}.sock", "protocol": protocol}
        if protocol in _STREAMS:
            given["stream"] = _STREAMS[protocol]
        if protocol == protocols[0]:
            parts.append(_table("[[listen]]", tables["listen[]"], given))
        else:
            # What the keys of a socket mean was said above.
            pairs = (f'{name} = "{value}"' for name, value in given.items())
            parts.append("\n".join(("[[listen]]", *pairs)))
        if protocol in _STREAMS:
            parts.append(_table(f"[listen.{protocol}]", tables[f"listen[].{protocol}"], {}))
    parts.extend(_table(f"[{name}]", tables[name], {}) for name in ("wal", "flush"))
    parts.append(_table("[store]", tables["store"], {"url": STORES[store]}))
    if store == "s3":
        parts.append(_table("[store.s3]", tables["store.s3"], {}))
    parts.extend(_table(f"[{name}]", tables[name], {}) for name in ("http", "log"))
    return "\n\n".join(parts) + "\n"


def _table(heading: str, those: Iterable[Key], given: Mapping[str, str]) -> str:
    lines = [heading]
    for key in those:
        name = key.name.rpartition(".")[2]
        value = key.default or _COMPUTED.get(key.name)
        line = f'{name} = "{given[name]}"' if name in given else f"#{name} = {value}"
        lines.extend((*_comment(key.plain_meaning), line, ""))
    return "\n".join(lines[:-1])


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_on_hyphens=False,
        break_long_words=False,
    )
