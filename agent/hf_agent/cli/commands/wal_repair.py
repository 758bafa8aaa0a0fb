"""`hf-agent wal repair`"""

from __future__ import annotations

from pathlib import Path

import click

from hf_agent.cli.command import Command
from hf_agent.cli.failures import CommandError
from hf_agent.cli.output import print_json, write_text
from hf_agent.clock import SystemClock, system_random
from hf_agent.service.exit_status import ExitStatus
from hf_agent.streams.repaired import encode_repaired
from hf_agent.wal.files import SyncFailure
from hf_agent.wal.repair import Damage, Loss, RepairReport, repair_wal

__all__ = ["repair"]

_ADVICE = "nothing is lost; when the cause is gone, call it again"


@click.command(cls=Command)
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only say what would be kept and what is lost.")
@click.option("--json", "as_json", is_flag=True, help="JSON.")
def repair(directory: Path, dry_run: bool, as_json: bool) -> None:
    """Make the damaged write-ahead log in DIRECTORY open again.

    Every append that can be proven is kept, also behind damaged places. The damaged files go,
    whole, to a folder in DIRECTORY, with a report and what was dropped beside them. The agent
    must not be running.

    Ends with 0 when the log is sound or was repaired; with 1 when --dry-run found damage, or
    nothing can be proven; with 74 when the disk failed; with 75 when an agent has the log.
    """
    try:
        report = repair_wal(
            directory,
            clock=SystemClock(),
            rng=system_random(),
            mend=encode_repaired,
            dry_run=dry_run,
        )
    except (OSError, SyncFailure) as error:
        what = (getattr(error, "strerror", None) or str(error)).lower()
        raise CommandError(
            f"the disk failed in the repair: {what}; {_ADVICE} path={directory}",
            ExitStatus.WAL_DISK_FAILED,
        ) from error
    if as_json:
        print_json(report.to_json())
    else:
        _print(report, dry_run)
    if dry_run and (report.damages or report.resumed):
        raise CommandError(
            f"the write-ahead log is damaged; without --dry-run it is repaired path={directory}"
        )


def _print(report: RepairReport, dry_run: bool) -> None:
    if report.resumed:
        done = "would be brought" if dry_run else "was brought"
        write_text(f"an earlier repair that was cut off {done} to its end")
    elif not report.damages:
        write_text("nothing is damaged; nothing was changed")
        if report.torn_bytes:
            write_text(f"the next start cuts an unfinished batch off bytes={report.torn_bytes}")
        return
    for damage in report.damages:
        write_text(_place(damage))
    if report.torn_bytes:
        write_text(f"an unfinished batch at the end is left out bytes={report.torn_bytes}")
    for loss in report.losses:
        write_text(_sentence(loss))
    if report.marks_incomplete:
        write_text(
            "marks, binds and new streams may be lost without a trace: what a client sends again "
            "could be stored twice"
        )
    if dry_run:
        write_text("nothing was changed: this was a dry run")
    elif not report.resumed:
        write_text(
            f"kept {report.records} records with {report.bytes} bytes of {report.streams} streams; "
            f"{report.zeros} zero bytes stand for lost ones"
        )
    if report.copy:
        write_text(f"the damaged files, report.json and dropped.bin are in {report.copy}")


def _place(damage: Damage) -> str:
    whose = f" stream={damage.stream} position={damage.position}" if damage.stream else ""
    place = f"{damage.file}:{damage.offset}"
    return f"damage: {place}: {damage.reason}{whose} bytes={damage.bytes}"


def _sentence(loss: Loss) -> str:
    parts = [f"bytes {start} to {end} are lost here" for start, end in loss.gaps]
    if loss.end_unknown:
        parts.append(f"up to {loss.end_unknown} bytes behind {loss.end} may be lost")
    if loss.bind_lost:
        parts.append("its newest bind is lost")
    if loss.rebound:
        parts.append(
            "it goes on behind what its container holds, and what the store has from position "
            f"{loss.kept_from} on may be stored twice"
        )
    else:
        if loss.gaps:
            parts.append("where the store does not have them, it gets zero bytes in their place")
        if loss.end_unknown or loss.bind_lost:
            parts.append("what the store has of it is asked of its container")
    return f"stream {loss.stream}: {'; '.join(parts)}"
