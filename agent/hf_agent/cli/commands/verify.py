"""`hf-agent verify`"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from hf_agent.cli.command import Command
from hf_agent.cli.failures import CommandError
from hf_agent.cli.output import print_json, write_text
from hf_agent.cli.progress import Progress
from hf_agent.cli.stores import StoreAccess, run_async, store_access, store_options
from hf_agent.hyperfile.check import MOST_OBJECTS
from hf_agent.hyperfile.verify import Affected, Finding, VerifyReport, verify_container

__all__ = ["verify"]


@click.command(cls=Command)
@click.argument("uri")
@click.option("--json", "as_json", is_flag=True, help="A JSON object.")
@click.option(
    "--max-objects",
    metavar="N",
    type=click.IntRange(min=1),
    default=MOST_OBJECTS,
    show_default=True,
    help="Objects that are checked for the rules of the format, the newest ones.",
)
@store_options
def verify(uri: str, as_json: bool, max_objects: int, **options: Any) -> None:
    """Read every object of a container, and check its checksums and its structure.

    Ends with 1 when something is wrong. Says which object and block that is, and which bytes of
    the content cannot be read for it. Notes are not errors: objects that no version needs, for
    one. An agent may go on appending meanwhile.
    """
    report = run_async(_verify(store_access(options), uri, max_objects))
    if as_json:
        print_json(_describe(uri, report))
    else:
        _print(report)
    if not report.sound:
        raise CommandError(
            f"the container is damaged: {_count(report.error_count, 'error')} uri={uri}"
        )


async def _verify(access: StoreAccess, uri: str, max_objects: int) -> VerifyReport:
    async with access.container(uri) as (store, key):
        with Progress("verify", None) as progress:
            return await verify_container(
                *(store, key),
                on_total=progress.expect,
                on_bytes=progress.advance,
                max_objects=max_objects,
            )


def _describe(uri: str, report: VerifyReport) -> dict[str, Any]:
    return {
        "uri": uri,
        "sound": report.sound,
        "checkpoint": report.checkpoint,
        "size": report.size,
        "checkpoints": report.versions,
        "objects": report.objects,
        "objects_with_checksums": report.with_checksums,
        "bytes": report.nbytes,
        "error_count": report.error_count,
        "note_count": report.note_count,
        "errors": [asdict(finding) for finding in report.errors],
        "notes": [asdict(finding) for finding in report.notes],
    }


def _print(report: VerifyReport) -> None:
    for finding in (*report.errors, *report.notes):
        write_text(_line(finding))
    more = report.error_count + report.note_count - len(report.errors) - len(report.notes)
    if more:
        write_text(f"and {more} more")
    write_text(
        f"{_count(report.objects, 'object')} of {_count(report.versions, 'checkpoint')}, "
        f"{report.nbytes} bytes, {report.with_checksums} with checksums: "
        f"{_count(report.error_count, 'error')}, {_count(report.note_count, 'note')}"
    )


def _line(finding: Finding) -> str:
    what = finding.what
    where = f"{what} at {finding.offset}" if finding.offset or what != "object" else what
    line = f"{finding.severity:5}  {finding.object}  {where}: {finding.problem}"
    return line + _unreadable(finding.affected) if finding.affected is not None else line


def _unreadable(affected: Affected) -> str:
    """As in `cat --range`: from A up to, not including, B."""
    ranges = ", ".join(f"{start}:{end}" for start, end in affected.ranges)
    if sum(end - start for start, end in affected.ranges) < affected.nbytes:
        ranges += ", …"
    version = "" if affected.checkpoint is None else f" of checkpoint {affected.checkpoint}"
    return f"; bytes {ranges}{version} cannot be read"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
