"""`repair_wal`: the whole of a repair, under the log's lock."""

from __future__ import annotations

import json
import os
import random
from datetime import UTC, datetime
from pathlib import Path

from hf_agent.clock import Clock
from hf_agent.wal.disk import Disk, OsDisk, pwritev_all
from hf_agent.wal.errors import WalUnusable
from hf_agent.wal.files import sync
from hf_agent.wal.handle import Handle
from hf_agent.wal.lock import take_lock
from hf_agent.wal.repair.dropped import write_dropped
from hf_agent.wal.repair.rebuild import rebuild
from hf_agent.wal.repair.report import Damage, RepairReport
from hf_agent.wal.repair.salvage import MendNote, salvage
from hf_agent.wal.repair.sources import LogFiles
from hf_agent.wal.repair.swap import (
    NEW_FOLDER,
    begin_swap,
    finish_swap,
    is_interrupted,
    remove_folder,
)

__all__ = ["REPORT_NAME", "repair_wal"]

REPORT_NAME = "report.json"

_OS_DISK = OsDisk()


def _forget(_note: bytes, _end: int, _most: int) -> bytes:
    return b""


def repair_wal(
    directory: Path,
    *,
    disk: Disk = _OS_DISK,
    clock: Clock,
    rng: random.Random,
    mend: MendNote = _forget,
    dry_run: bool = False,
) -> RepairReport:
    """Make the log in `directory` open again, with everything in it that is provable.

    Nothing is changed when nothing is damaged, or with `dry_run`. Otherwise the damaged files are
    moved, whole, to a folder below `directory`, with the report and what was dropped beside them.
    It takes as much room on the disk as what the store is not known to have, and what is dropped.
    `mend` makes notes for streams of which the end or the note may be lost; without it such a
    stream has none.

    Raises `WalLocked`; `WalCorrupt` when no file tells which log it is, or one is of a later
    version; `WalUnusable` when there is no log; `WalError`, `SyncFailure` and `OSError` from the
    disk: then nothing has changed, or the next call goes on.
    """
    if not disk.is_dir(directory):
        raise WalUnusable(f"there is no such directory; name the one of the log path={directory}")
    lock = take_lock(disk, directory)
    try:
        return _repair(directory, disk, clock, rng, mend, dry_run)
    finally:
        lock.close()


def _repair(
    directory: Path,
    disk: Disk,
    clock: Clock,
    rng: random.Random,
    mend: MendNote,
    dry_run: bool,
) -> RepairReport:
    report = RepairReport(str(directory))
    if is_interrupted(disk, directory):
        report.resumed = True
        if not dry_run:
            report.copy = finish_swap(disk, directory)
            report.repaired = True
        return report
    new = directory / NEW_FOLDER
    if not dry_run:
        remove_folder(disk, new)  # of a repair that never came to its swap
    files = LogFiles(disk, directory)
    found = salvage(files)
    report.damages, report.losses = found.damages, found.losses()
    report.marks_incomplete = found.marks_incomplete
    report.torn_bytes = found.torn.length if found.torn else 0
    report.streams = len(found.streams)
    if dry_run or not found.damages:
        return report
    disk.mkdir(new)
    counts = rebuild(files, found, new, disk=disk, clock=clock, rng=rng, mend=mend)
    report.records, report.bytes, report.zeros = counts.records, counts.bytes, counts.zeros
    copy = _copy_folder(disk, directory, clock)
    report.copy = copy
    report.repaired = True
    dropped = list(found.damages)
    if found.torn:
        torn = found.torn
        report.torn = Damage(torn.path.name, torn.offset, torn.length, "an unfinished batch")
        dropped.append(report.torn)
    write_dropped(disk, directory, copy, dropped)
    _write_report(disk, copy, report)
    begin_swap(disk, directory, files.last_sequence, copy.name)
    finish_swap(disk, directory)
    return report


def _copy_folder(disk: Disk, directory: Path, clock: Clock) -> Path:
    now = datetime.fromtimestamp(clock.time(), UTC)
    stem = f"damaged-{now:%Y%m%dT%H%M%SZ}"
    name, number = stem, 1
    while disk.is_dir(directory / name):
        number += 1
        name = f"{stem}-{number}"
    disk.mkdir(directory / name)
    sync(disk.fsync_dir, directory)
    return directory / name


def _write_report(disk: Disk, folder: Path, report: RepairReport) -> None:
    text = json.dumps(report.to_json(), indent=2).encode() + b"\n"
    handle = Handle(disk, disk.open(folder / REPORT_NAME, os.O_RDWR | os.O_CREAT))
    try:
        disk.truncate(handle.fd, 0)
        pwritev_all(disk, handle.fd, [text], 0)
        sync(disk.fsync, handle.fd)
    finally:
        handle.close()
    sync(disk.fsync_dir, folder)
