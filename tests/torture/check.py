"""The independent check: what is stored, byte for byte, against what was sent and acknowledged.

Reads objects with the tests' own reader of the format (`support.container_check`), never with the
package's. Raises `AssertionError` for the first thing that is wrong.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from support.container_check import Checker, check_levels_descend, check_own_object, check_trailer
from support.forward_sender import entries_of, line_of
from support.sent_lines import check_lines
from torture.load import LINES, Appender, ForwardShipper, Load

__all__ = ["check_stored", "check_streams"]


def check_stored(objects: Mapping[str, bytes], load: Load, *, prefix: str) -> dict[str, int]:
    """Check all objects of the store; containers lie below `prefix`. Returns figures.

    Left over may be, and nothing else: objects of preflights that were killed, and checkpoints that
    no inode names.
    """
    containers = {key.removesuffix("/inode") for key in objects if key.endswith("/inode")}
    containers = {key for key in containers if key.startswith(prefix)}
    assert not [key for key in containers if ".conflict-" in key], "nobody else has written"
    left = set(objects) - {key for key in objects if key.startswith(".hf-agent-preflight/")}
    contents: dict[str, bytes] = {}
    checkpoints = abandoned = 0
    for container in containers:
        own = {key: objects[key] for key in left if key.startswith(f"{container}/")}
        checker = Checker(own, container)
        chain = checker.chain()
        for segment in chain:
            check_own_object(segment)
            check_trailer(segment)
            check_levels_descend(segment)
        contents[container.removeprefix(prefix)] = (
            checker.content(chain[-1].inode) if chain else b""
        )
        named = {f"{container}/inode", *(f"{container}/{each.number:010d}.0" for each in chain)}
        # Begun by an agent that died before it swapped the inode, and not taken up by the next.
        others = {key for key in own if re.fullmatch(re.escape(container) + r"/\d{10}\.0", key)}
        checkpoints += len(chain)
        abandoned += len(others - named)
        left -= named | others
    assert not left, f"objects of no documented kind: {sorted(left)[:5]}"
    check_streams(contents, load)
    return {
        "containers": len(containers),
        "checkpoints": checkpoints,
        "checkpoints that no inode names": abandoned,
        "stored bytes": sum(map(len, contents.values())),
        "left preflight objects": len(objects)
        - sum(1 for key in objects if not key.startswith(".hf-agent-preflight/")),
    }


def check_streams(contents: Mapping[str, bytes], load: Load) -> None:
    """Check the content of each stream, by its name."""
    rest = dict(contents)
    for shipper in load.shippers:
        _check_chunks(rest.pop(shipper.tag, b""), shipper)
    for lines in load.lines:
        check_lines(rest.pop(LINES, b""), lines.chunks)
    _check_appends(rest, load.appenders)


def _check_appends(contents: Mapping[str, bytes], appenders: Sequence[Appender]) -> None:
    clients = {appender.tag.encode(): appender for appender in appenders}
    stored: dict[tuple[str, str], list[int]] = defaultdict(list)
    for stream, content in contents.items():
        assert not content or content.endswith(b"\n"), f"stream {stream} ends within an append"
        for each in content.splitlines(keepends=True):
            client = clients.get(each.split(b" ", 1)[0])
            assert client is not None, f"nobody sent this to stream {stream}: {each[:80]!r}"
            number = int(each.split(b" ", 2)[1])
            sent = client.record(number)
            assert each == sent.data, f"not as it was sent, stream {stream}: {each[:80]!r}"
            assert number < client.sent, f"never sent: {each[:80]!r}"
            stored[client.tag, stream].append(number)
    for client in appenders:
        expected: dict[str, list[int]] = defaultdict(list)
        for stream, number, _ in client.expected():
            expected[stream].append(number)
        streams = {stream for tag, stream in stored if tag == client.tag}
        for stream in expected.keys() | streams:
            found = stored[client.tag, stream]
            if not client.identified:
                found = list(dict.fromkeys(found))  # sent again, stored again: but not before
            _same(f"client {client.tag}, stream {stream}", found, expected[stream])


def _same(where: str, found: Sequence[int], expected: Sequence[int]) -> None:
    if found == expected:
        return
    lost = sorted(set(expected) - set(found))
    foreign = sorted(set(found) - set(expected))
    doubled = len(found) - len(set(found))
    raise AssertionError(
        f"{where}: lost {len(lost)} {lost[:5]}, doubled {doubled}, not its own {foreign[:5]}, "
        f"or out of order; {len(found)} stored, {len(expected)} expected"
    )


def _check_chunks(stored: bytes, shipper: ForwardShipper) -> None:
    lines = iter(stored.splitlines())
    for number in range(shipper.answered):
        for nanos, event in entries_of(shipper.seed, number):
            line = next(lines, None)
            assert line is not None, f"chunk {number} of {shipper.tag} is lost"
            assert json.loads(line) == line_of(number, nanos, event), f"{shipper.tag} {line[:80]!r}"
    assert next(lines, None) is None, f"more than was sent: {shipper.tag}"
