"""Commands over a container that moves on and loses old objects meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hf_agent import hyperfile
from hf_agent.cli.main import main
from hf_agent.hyperfile import Reader
from hf_agent.store.directory import DirectoryStore

OLD = b"an old line\n" * 30_000
NEW = b"a new line\n" * 40_000


def write(uri: str, data: bytes) -> None:
    with hyperfile.open(uri, "w") as file:
        file.write(data)


def lose(folder: Path, number: int) -> None:
    (folder / f"{number:010d}.0").unlink()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(f"file://{tmp_path}/store/log", OLD)
    return tmp_path / "store" / "log"


def test_cat_says_to_begin_again_and_ends_with_1(
    capfdbinary: pytest.CaptureFixture[bytes], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Overtaken(Reader):
        @classmethod
        async def open(cls, *args: Any, **kwargs: Any) -> Reader:
            reader = await super().open(*args, **kwargs)
            await asyncio.to_thread(write, f"file://{folder}", NEW)
            lose(folder, 1)
            return reader

    monkeypatch.setattr("hf_agent.cli.commands.cat.Reader", Overtaken)
    assert main(["cat", f"file:{folder}"]) == 1
    out, err = capfdbinary.readouterr()
    assert out == b""
    assert b"hf-agent: the version that was opened is not there any more" in err
    assert b"open it again" in err
    assert b"damaged" not in err
    monkeypatch.undo()
    assert main(["cat", f"file:{folder}"]) == 0
    assert capfdbinary.readouterr().out == NEW


def test_cat_calls_a_lost_object_damage(
    capfdbinary: pytest.CaptureFixture[bytes], folder: Path
) -> None:
    write(f"file://{folder}", NEW)
    lose(folder, 2)
    assert main(["cat", f"file:{folder}"]) == 1
    assert b"damaged container" in capfdbinary.readouterr().err


@pytest.mark.parametrize("lost_at", ["the first copy", "a later one"])
def test_tail_follows_to_the_version_that_is_there(
    capfdbinary: pytest.CaptureFixture[bytes],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    lost_at: str,
) -> None:
    more = b"more\n"
    looks = 0

    class Overtaken(Reader):
        overtaken = False

        async def read(self, offset: int, length: int) -> bytes:
            if offset == len(OLD) - 12 and lost_at == "the first copy" and not looks:
                await self.lose()
            return await super().read(offset, length)

        async def lose(self) -> None:
            if not Overtaken.overtaken:
                Overtaken.overtaken = True
                await asyncio.to_thread(write, f"file://{folder}", OLD + more)
                lose(folder, self.inode.last_cno)

        async def refresh(self) -> bool:
            nonlocal looks
            looks += 1
            if looks == 1 and lost_at != "the first copy":
                await asyncio.to_thread(write, f"file://{folder}", OLD + b"m" + bytes(4))
                moved = await super().refresh()
                await self.lose()
                return moved
            if looks == 4:
                raise KeyboardInterrupt
            return await super().refresh()

    monkeypatch.setattr("hf_agent.cli.commands.tail.Reader", Overtaken)
    assert main(["tail", "-f", "-n", "1", "--interval", "0.01", f"file:{folder}"]) == 130
    out, err = capfdbinary.readouterr()
    assert out == b"an old line\n" + more
    assert err == b""


def test_tail_without_following_says_to_begin_again(
    capfdbinary: pytest.CaptureFixture[bytes], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Overtaken(Reader):
        async def read(self, offset: int, length: int) -> bytes:
            if self.inode.last_cno == 1:
                await asyncio.to_thread(write, f"file://{folder}", NEW)
                lose(folder, 1)
            return await super().read(offset, length)

    monkeypatch.setattr("hf_agent.cli.commands.tail.Reader", Overtaken)
    assert main(["tail", "-n", "3", f"file:{folder}"]) == 1
    out, err = capfdbinary.readouterr()
    assert out == b""
    assert b"open it again" in err


@pytest.mark.parametrize(
    ("command", "first_read"),
    [
        (["diff", "{log}", "0"], 1),
        (["cp", "{log}", "{log}-copy"], 1),
        (["cp", "--history", "{log}", "{log}-copy"], 1),
        (["rollback", "{log}", "1"], 2),
    ],
)
def test_commands_on_versions_say_to_begin_again_and_end_with_1(
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    first_read: int,
) -> None:
    folder = tmp_path / "store" / "log"
    with hyperfile.open(f"file:{folder}", "w", block_size=4096) as file:
        file.write(bytes([1]) * (300 * 4096))  # more than one map node
        file.flush()
        file.write(b"more")
    get, overtaken = DirectoryStore.get, False

    async def overtaken_get(self: DirectoryStore, key: str, **ranges: Any) -> Any:
        nonlocal overtaken
        if not overtaken and key.endswith(f"{first_read:010d}.0"):
            overtaken = True
            await asyncio.to_thread(write, f"file://{folder}", NEW)
            lose(folder, 1)
            lose(folder, 2)
        return await get(self, key, **ranges)

    monkeypatch.setattr(DirectoryStore, "get", overtaken_get)
    assert main([part.format(log=f"file:{folder}") for part in command]) == 1
    assert overtaken
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("hf-agent: the version that was opened is not there any more")
    assert err.endswith(".0\n")
    assert "open it again" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "store" / "log-copy" / "inode").exists()
    with hyperfile.open(f"file:{folder}") as file:
        assert file.readall() == NEW
