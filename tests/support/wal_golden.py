"""Golden write-ahead logs: how each was written, and what it holds.

`python tests/support/wal_golden.py` writes those that are missing for the present version of the
format below `tests/golden/wal`, and never one that is there.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from hf_agent.streams.bind import Bind, encode_bind
from hf_agent.streams.repaired import encode_repaired
from hf_agent.wal import Wal, WalConfig
from hf_agent.wal.file_head import VERSION
from hf_agent.wal.inspect import inspect_wal
from hf_agent.wal.repair import repair_wal
from support.manual_clock import ManualClock
from support.wal_disk import MemoryDisk, PowerLoss
from support.wal_tools import disk_with, fill_file, image_of, open_wal, read_all, settle

__all__ = ["EXPECTED", "FOLDER", "MAKERS", "content_of", "goldens", "make"]

FOLDER = Path(__file__).parents[1] / "golden" / "wal"
EXPECTED = "expected.json"
CONFIG = WalConfig(
    file_bytes=32 << 10, max_bytes=1 << 20, max_batch_bytes=4 << 10, max_record_bytes=8 << 10
)


def bind(stream: str, position: int = 0, offset: int = 0) -> bytes:
    """A bind of a stream, as the agent logs it."""
    key = f"node/{stream}"
    return encode_bind(Bind("s3://bucket/logs", key, key, position, offset, 0x0123456789ABCDEF))


def append(wal: Wal, stream: str, data: bytes, *marks: tuple[str | bytes, int]) -> None:
    """A batch of its own."""
    wal.append(stream, data, marks=marks)
    settle(wal)


def plain(wal: Wal) -> None:
    """One file: two streams, a bind, producers without epochs, a chunk of protocol forward."""
    append(wal, "app", b"first line\n", ("producer", 1))
    append(wal, "web", b"GET /\n")
    wal.note("app", bind("app"))
    settle(wal)
    wal.append("app", b"second line\n", marks=[("producer", 2)])
    wal.append("web", b"GET /index\n", marks=[(bytes(range(16)), 1000 << 32 | 3)])
    settle(wal)
    wal.note("ünïcode", b"")
    settle(wal)


def epochs(wal: Wal) -> None:
    """Marks of two words: producers with epochs, marks without appends, several streams at once."""
    append(wal, "app", b"in epoch 0\n", ("producer", 7))
    append(wal, "app", b"in epoch 1\n", ("producer", 1 << 63 | 1))
    wal.append_all([("app", b"to one, "), ("web", b"and to another\n")], marks=[("other", 5 << 63)])
    settle(wal)
    wal.mark([("producer", (1 << 62) << 63 | (1 << 63) - 1)])
    settle(wal)


def rotated(wal: Wal) -> None:
    """Three files, two of them sealed with an index; state is carried in snapshots."""
    epochs(wal)
    wal.note("app", bind("app"))
    settle(wal)
    for _ in range(2):
        fill_file(wal, "filler")
        append(wal, "web", b"in another file\n", (b"a chunk's digest", 2000 << 32 | 1))


def freed(wal: Wal) -> None:
    """The first files are gone; a COMMIT says that the store has what they held."""
    rotated(wal)
    for view in list(wal.streams()):
        wal.commit(view.name, view.durable)
    settle(wal)
    wal.note("app", bind("app", 28, 28))
    append(wal, "app", b"behind what was committed\n")
    fill_file(wal, "filler")
    append(wal, "app", b"in the newest file\n")


MAKERS: dict[str, Callable[[Wal], None]] = {
    "plain": plain,
    "epochs": epochs,
    "rotated": rotated,
    "freed": freed,
    "torn": plain,
    "repaired": plain,
}
"""By the name of the log behind the version in its folder's name."""


def make(name: str) -> MemoryDisk:
    """Write a golden log as the present version does; the log is closed, or its process died."""
    disk = MemoryDisk()
    wal = open_wal(disk, CONFIG, seed=sorted(MAKERS).index(name))
    MAKERS[name](wal)
    if name == "torn":
        wal.append("app", b"never acknowledged\n")
        wal.append("web", b"nor this\n" * 40)
        disk.dies_at = disk.operations + 1
        try:
            settle(wal)
        except PowerLoss:
            disk.process_death()
        return disk
    wal.close()
    return _repaired(disk) if name == "repaired" else disk


def _repaired(whole: MemoryDisk) -> MemoryDisk:
    """The same log after a lost record was replaced by zeros, and the end is not known."""
    disk = disk_with(image_of(whole))
    records = list(inspect_wal(disk.root, disk=disk))
    first = next(found for found in records if found.kind == "data")
    last = [found for found in records if found.kind == "marks"][-1]
    (inode,) = (inode for name, inode in disk.names.items() if name.endswith(".wal"))
    inode.data[first.offset + 48] ^= 1
    inode.data[last.offset + 20] ^= 1
    repair_wal(
        disk.root, disk=disk, clock=ManualClock(), rng=random.Random(1), mend=encode_repaired
    )
    return disk


def goldens() -> list[Path]:
    """The folders of all golden logs, of every version."""
    return sorted(path for path in FOLDER.iterdir() if path.is_dir())


def content_of(wal: Wal, marks: list[str | bytes]) -> dict[str, Any]:
    """What an opened log holds, as plain JSON; of marks it must be told the keys."""
    streams = {}
    for view in wal.streams():
        data = read_all(wal, view.name)
        streams[view.name] = {
            "first": view.first,
            "end": view.durable,
            "committed": view.committed,
            "note": view.note.hex(),
            "sha256": hashlib.sha256(data).hexdigest(),
            "text": data.decode() if len(data) < 200 else None,
        }
    return {
        "wal_id": wal.id.hex(),
        "torn": wal.recovery.torn is not None,
        "streams": streams,
        "marks": [[key_text(key), str(wal.last_mark(key))] for key in marks],
    }


def key_text(key: str | bytes) -> str:
    """A mark's key in JSON: `text:KEY` or `hex:BYTES`."""
    return f"hex:{key.hex()}" if isinstance(key, bytes) else f"text:{key}"


def key_of(text: str) -> str | bytes:
    """What `key_text` wrote."""
    kind, _, key = text.partition(":")
    return bytes.fromhex(key) if kind == "hex" else key


def main() -> None:
    """Write what is missing."""
    for name in MAKERS:
        folder = FOLDER / f"{VERSION}-{name}"
        if folder.exists():
            continue
        folder.mkdir(parents=True)
        image = image_of(make(name))
        for file, data in image.items():
            (folder / file).write_bytes(data)
        wal = open_wal(disk_with(image), CONFIG)
        keys = [key for key, _ in wal._files.state.marks.items()]
        text = json.dumps(content_of(wal, keys), indent=1, ensure_ascii=False)
        (folder / EXPECTED).write_text(text + "\n", encoding="utf-8")
        print(folder)


if __name__ == "__main__":
    main()
