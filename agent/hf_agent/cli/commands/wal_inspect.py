"""`hf-agent wal inspect`"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from hf_agent.cli.command import Command
from hf_agent.cli.failures import CommandError
from hf_agent.cli.output import JsonArray, iso_time, print_json, print_table, write_text
from hf_agent.wal.inspect import Finding, inspect_wal

__all__ = ["inspect"]

_FAULTS = ("damage", "torn")


@dataclass(slots=True)
class _File:
    name: str
    size: int = 0
    free: int = 0
    records: int = 0
    first_time: float = 0.0
    last_time: float = 0.0
    faults: int = 0


@dataclass(slots=True)
class _Stream:
    name: str
    records: int = 0
    bytes: int = 0
    first_position: int = 0
    end_position: int = 0


@dataclass(slots=True)
class _Sums:
    """What a log holds, by file and by stream."""

    files: dict[str, _File] = field(default_factory=dict)
    streams: dict[str, _Stream] = field(default_factory=dict)
    faults: list[Finding] = field(default_factory=list)

    def add(self, found: Finding) -> None:
        file = self.files.setdefault(found.file.name, _File(found.file.name))
        details = found.details
        if found.kind in _FAULTS:
            file.faults += 1
            self.faults.append(found)
        elif found.kind == "file":
            file.size = details["size"]
        elif found.kind == "end":
            file.free = details["free"]
        else:
            file.records += 1
            file.first_time = file.first_time or details["time"]
            file.last_time = details["time"]
            if found.kind == "data":
                self._add_data(details["stream"] or f"number {details['number']}", details)

    def _add_data(self, name: str, details: Any) -> None:
        stream = self.streams.get(name)
        if stream is None:
            stream = self.streams[name] = _Stream(name, first_position=details["position"])
        stream.records += 1
        stream.bytes += details["length"]
        stream.end_position = max(stream.end_position, details["position"] + details["length"])


@click.command(cls=Command)
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--records", is_flag=True, help="Record by record, instead of sums.")
@click.option("--json", "as_json", is_flag=True, help="JSON.")
def inspect(directory: Path, records: bool, as_json: bool) -> None:
    """Show what the write-ahead log in DIRECTORY holds, and what is damaged.

    Ends with 1 when something is damaged. A torn tail is none: the next start cuts it.
    """
    findings = inspect_wal(directory)
    damage = _show_records(findings, as_json) if records else _show_sums(findings, as_json)
    if damage is not None:
        raise CommandError(
            f"the write-ahead log is damaged: {damage.message} file={damage.file} "
            f"offset={damage.offset}"
        )


def _show_records(findings: Iterable[Finding], as_json: bool) -> Finding | None:
    """Everything as it comes; returns the first damage."""
    array = JsonArray() if as_json else None
    damage = None
    for found in findings:
        if array is not None:
            array.add(_row(found))
        else:
            write_text(f"{found.file.name}:{found.offset}  {found.kind:8}  {found.message}")
        if found.kind == "damage" and damage is None:
            damage = found
    if array is not None:
        array.end()
    return damage


def _show_sums(findings: Iterable[Finding], as_json: bool) -> Finding | None:
    sums = _Sums()
    for found in findings:
        sums.add(found)
    if as_json:
        print_json(
            {
                "files": [asdict(each) for each in sums.files.values()],
                "streams": [asdict(each) for each in sums.streams.values()],
                "faults": [_row(each) for each in sums.faults],
            }
        )
    else:
        _print_sums(sums)
    return next((each for each in sums.faults if each.kind == "damage"), None)


def _print_sums(sums: _Sums) -> None:
    print_table(
        ("FILE", "SIZE", "FREE", "RECORDS", "FAULTS", "LAST WRITTEN"),
        [
            (each.name, each.size, each.free, each.records, each.faults, _time(each.last_time))
            for each in sums.files.values()
        ],
    )
    if sums.streams:
        write_text("")
    print_table(
        ("STREAM", "RECORDS", "BYTES", "FROM", "TO"),
        [
            (each.name, each.records, each.bytes, each.first_position, each.end_position)
            for each in sums.streams.values()
        ],
    )
    for found in sums.faults:
        write_text(f"{found.kind}: {found.file.name}:{found.offset}: {found.message}")


def _row(found: Finding) -> dict[str, Any]:
    return {
        "file": str(found.file),
        "offset": found.offset,
        "kind": found.kind,
        "message": found.message,
        **found.details,
    }


def _time(seconds: float) -> str:
    return iso_time(seconds) if seconds else "-"
