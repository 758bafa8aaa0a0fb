"""`ls`, `stat`, `log`, `cat` and `tail` on the golden containers, in this process."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from hf_agent.cli.main import main

GOLDEN = Path(__file__).parents[1] / "golden"
MANIFEST = json.loads((GOLDEN / "manifest.json").read_text())
URL = f"file://{GOLDEN}"
PARTED = f"{URL}/parted"


def output(capfdbinary: pytest.CaptureFixture[bytes], *args: str, status: int = 0) -> bytes:
    """Standard output of a command that ends with `status` and says nothing else."""
    got = main(list(args))
    out, err = capfdbinary.readouterr()
    assert (got, err) == (status, b""), err
    return out


def error(capfdbinary: pytest.CaptureFixture[bytes], *args: str, status: int) -> str:
    """The one line on standard error of a command that fails."""
    got = main(list(args))
    out, err = capfdbinary.readouterr()
    assert (got, out) == (status, b"")
    (line,) = err.decode().splitlines()
    assert line.startswith("hf-agent: ")
    return line.removeprefix("hf-agent: ")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_cat_gives_the_content(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    data = output(capfdbinary, "cat", PARTED)
    assert sha256(data) == MANIFEST["parted"]["sha256"]


def test_cat_gives_the_content_of_every_checkpoint(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    for number, expected in MANIFEST["parted"]["checkpoints"].items():
        data = output(capfdbinary, "cat", PARTED, "--at", number)
        assert sha256(data) == expected["sha256"]


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("100:200", 100, 200),
        (":1KiB", 0, 1024),
        ("299KB:", 299_000, None),
        ("-10:", -10, None),
        (":-299990", 0, 10),
        ("-10:-5", -10, -5),
        ("299990:1GiB", 299_990, None),
        ("1GiB:", 300_000, None),
        (":", 0, None),
        ("5:5", 5, 5),
    ],
)
def test_cat_gives_a_range(
    capfdbinary: pytest.CaptureFixture[bytes], wanted: str, start: int, end: int | None
) -> None:
    whole = output(capfdbinary, "cat", PARTED)
    assert output(capfdbinary, "cat", PARTED, "--range", wanted) == whole[start:end]


@pytest.mark.parametrize("wanted", ["5", "a:b", "5:2", "-5:-6", "1.5:2"])
def test_a_range_that_is_none_is_a_usage_error(
    capfdbinary: pytest.CaptureFixture[bytes], wanted: str
) -> None:
    assert "--range" in error(capfdbinary, "cat", PARTED, "--range", wanted, status=64)


def test_log_lists_checkpoints_newest_first(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    rows = json.loads(output(capfdbinary, "log", PARTED, "--json"))
    assert [row["checkpoint"] for row in rows] == [4, 3, 2, 1]
    sizes = {
        int(number): each["size"] for number, each in MANIFEST["parted"]["checkpoints"].items()
    }
    assert {row["checkpoint"]: row["size"] for row in rows} == sizes
    assert all(row["changed_blocks"] > 0 for row in rows)
    block_size = json.loads(output(capfdbinary, "stat", PARTED, "--json"))["block_size"]
    assert all(row["changed_bytes"] == row["changed_blocks"] * block_size for row in rows)
    assert json.loads(output(capfdbinary, "log", PARTED, "--json", "-n", "1")) == rows[:1]
    assert json.loads(output(capfdbinary, "log", f"{URL}/empty", "--json")) == []
    lines = output(capfdbinary, "log", PARTED).decode().splitlines()
    assert lines[0].split() == [
        "CHECKPOINT",
        "TIME",
        "SIZE",
        *("CHANGED", "BLOCKS", "CHANGED", "BYTES"),
    ]
    assert lines[1].split()[:3] == ["4", rows[0]["time"], "300000"]


def test_cat_at_a_moment_gives_what_was_there_then(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    rows = json.loads(output(capfdbinary, "log", PARTED, "--json"))
    # Times are shown to the millisecond, cut: the version of that moment began before its end.
    moment = rows[1]["time"].replace("Z", "999+00:00")
    data = output(capfdbinary, "cat", PARTED, "--at-time", moment)
    assert sha256(data) == MANIFEST["parted"]["checkpoints"]["3"]["sha256"]
    newest = output(capfdbinary, "cat", PARTED, "--at-time", "@4102444800")
    assert sha256(newest) == MANIFEST["parted"]["sha256"]


def test_a_moment_before_the_first_checkpoint_is_an_error(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    line = error(capfdbinary, "cat", PARTED, "--at-time", "1990-01-01", status=1)
    assert line.startswith("no checkpoint is that old")
    assert line.endswith("time=1990-01-01T00:00:00.000Z")
    assert "not a time" in error(capfdbinary, "cat", PARTED, "--at-time", "noon", status=64)
    assert "exclude each other" in error(
        capfdbinary, "cat", PARTED, "--at", "1", "--at-time", "0", status=64
    )


def test_ls_lists_containers_with_sizes_and_checkpoints(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    shutil.copytree(GOLDEN / "parted", tmp_path / "a" / "app")
    shutil.copytree(GOLDEN / "empty", tmp_path / "a" / "app" / "below")
    shutil.copytree(GOLDEN / "flat", tmp_path / "b")
    (tmp_path / "noise").write_text("no container")
    rows = json.loads(output(capfdbinary, "ls", f"file://{tmp_path}", "--json"))
    assert [(row["key"], row["size"], row["checkpoint"]) for row in rows] == [
        ("a/app", 300_000, 4),
        ("a/app/below", 0, 0),
        ("b", 257_206, 6),
    ]
    assert rows[0]["uri"] == f"file://{tmp_path}/a/app"
    assert rows[0]["time"].endswith("Z")
    below = json.loads(output(capfdbinary, "ls", f"file://{tmp_path}/a", "--json"))
    assert [row["key"] for row in below] == ["app", "app/below"]
    lines = output(capfdbinary, "ls", f"file://{tmp_path}").decode().splitlines()
    assert lines[0].split() == ["SIZE", "CHECKPOINT", "TIME", "NAME"]
    assert lines[1].split()[0::3] == ["300000", "a/app"]


def test_ls_of_nothing_says_so(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    assert json.loads(output(capfdbinary, "ls", f"file://{tmp_path}/x", "--json")) == []
    line = error(capfdbinary, "ls", f"file://{tmp_path}/x", status=0)
    assert line == f"no containers below file://{tmp_path}/x"


def test_ls_lists_the_others_when_one_is_damaged(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    shutil.copytree(GOLDEN / "empty", tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "inode").write_bytes(bytes(160))
    assert main(["ls", f"file://{tmp_path}", "--json"]) == 1
    out, err = capfdbinary.readouterr()
    assert [row["key"] for row in json.loads(out)] == ["good"]
    assert err.startswith(b"hf-agent: damaged container: ")
    assert b"object=bad/inode" in err


def test_stat_describes_one_container(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    values = json.loads(output(capfdbinary, "stat", f"{URL}/stream-parts", "--json"))
    assert values["size"] == MANIFEST["stream-parts"]["size"]
    assert values["checkpoint"] == MANIFEST["stream-parts"]["last_cno"]
    assert values["pointer_format"] == "stream"
    assert values["layout"] == "current"
    assert json.loads(output(capfdbinary, "stat", f"{URL}/legacy-02", "--json"))["layout"] == "0.2"
    lines = output(capfdbinary, "stat", PARTED).decode().splitlines()
    assert lines[0].split() == ["uri", PARTED]
    assert ["compaction", "attached", "no"] in [line.split() for line in lines]


def test_a_relative_url_begins_at_the_current_directory(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(GOLDEN.parent)
    data = output(capfdbinary, "cat", "file:./golden/parted", "--range", ":10")
    assert data == output(capfdbinary, "cat", PARTED, "--range", ":10")
    uri = json.loads(output(capfdbinary, "ls", "file:golden", "--json"))[0]["uri"]
    assert uri.startswith("file:golden/")


@pytest.mark.parametrize("command", ["cat", "stat", "log", "tail"])
def test_no_container_is_one_line_that_names_the_uri(
    capfdbinary: pytest.CaptureFixture[bytes], command: str
) -> None:
    line = error(capfdbinary, command, f"{URL}/nothing", status=1)
    assert line == f"no container here: it has no inode object uri={URL}/nothing"


def test_a_checkpoint_that_is_not_there_is_an_error(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    assert "checkpoint=99" in error(capfdbinary, "cat", PARTED, "--at", "99", status=1)


@pytest.mark.parametrize(
    "url", ["http://host/x", "nothing", "s3://", "file://host/x", "s3://bucket"]
)
def test_what_names_no_container_is_a_usage_error(
    capfdbinary: pytest.CaptureFixture[bytes], url: str
) -> None:
    assert error(capfdbinary, "cat", url, status=64).endswith("; see hf-agent cat --help")


def test_s3_options_come_from_the_configuration_and_the_command_line(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens at the endpoint: the error names the one that was used."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_CONFIG_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)
    config = tmp_path / "agent.toml"
    config.write_text(
        '[[listen]]\npath = "/a"\n[store]\nurl = "s3://b"\n'
        '[store.s3]\nendpoint_url = "http://127.0.0.1:1"\nregion = "eu-west-1"\n'
    )
    line = error(capfdbinary, "cat", "s3://bucket/key", "--config", str(config), status=69)
    assert "127.0.0.1:1 " in line
    line = error(
        capfdbinary,
        *("--config", str(config), "stat", "s3://bucket/key"),
        *("--endpoint-url", "http://127.0.0.1:2"),
        status=69,
    )
    assert "127.0.0.1:2 " in line
