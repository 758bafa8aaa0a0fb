"""What a good configuration becomes, and the files that come with the project."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import msgspec
import pytest

from hf_agent.config import FIRST_LINE, S3, Flush, Listen, Log, Wal, load, parse
from hf_agent.ingest import endpoint

ROOT = Path(__file__).parents[2]
MINIMAL = '[[listen]]\npath = "/run/a.sock"\n[store]\nurl = "s3://bucket/prefix"\n'


def test_everything_but_listen_and_url_has_a_default() -> None:
    config = parse(MINIMAL, environment={})
    assert config.listen == (Listen(path="/run/a.sock"),)
    assert config.listen[0].protocol == "append"
    assert config.listen[0].mode == 0o660
    assert config.agent.node == socket.gethostname()
    assert config.agent.data_dir == "/var/lib/hf-agent"
    assert config.wal == Wal(dir="/var/lib/hf-agent/wal")
    assert config.flush == Flush()
    assert (config.flush.interval, config.flush.bytes, config.flush.block_size) == (
        5.0,
        16 << 20,
        64 << 10,
    )
    assert config.store.key == "{node}/{stream}"
    assert config.store.s3 == S3()
    assert config.http.listen == "127.0.0.1:9477"
    assert config.log == Log()


def test_values_are_bytes_seconds_and_bits() -> None:
    config = parse(
        MINIMAL.replace(
            "[store]",
            'protocol = "lines"\nstream = "{first_line}"\nmode = "0600"\n'
            'max_record_bytes = "1MiB"\nmax_connections = "${N}"\n[store]',
        )
        + '[flush]\ninterval = "500ms"\nretry_max = "1m"\nblock_size = "4KiB"\n',
        environment={"N": "12"},
    )
    (listen,) = config.listen
    assert (listen.mode, listen.max_record_bytes, listen.max_connections) == (0o600, 1 << 20, 12)
    assert listen.stream == FIRST_LINE == endpoint.FIRST_LINE
    assert (config.flush.interval, config.flush.retry_max) == (0.5, 60.0)
    assert config.flush.block_size == 4096


def test_a_configuration_is_frozen() -> None:
    config = parse(MINIMAL, environment={})
    with pytest.raises(AttributeError):
        config.flush.interval = 1.0  # type: ignore[misc]


def test_the_wal_is_below_the_data_directory_unless_it_is_said() -> None:
    below = parse(MINIMAL + '[agent]\ndata_dir = "/data"\n', environment={})
    assert below.wal.dir == "/data/wal"
    apart = parse(MINIMAL + '[agent]\ndata_dir = "/data"\n[wal]\ndir = "/fast"\n', environment={})
    assert apart.wal.dir == "/fast"


def test_relative_paths_begin_at_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = parse(
        '[agent]\ndata_dir = "./data"\n[[listen]]\npath = "./data/a.sock"\n'
        '[store]\nurl = "file:./data/store"\n',
        environment={},
    )
    assert config.agent.data_dir == f"{tmp_path}/data"
    assert config.wal.dir == f"{tmp_path}/data/wal"
    assert config.store.url == f"file://{tmp_path}/data/store"
    # Short as it is written: the whole path might be too long for a socket.
    assert config.listen[0].path == "./data/a.sock"


def test_the_shipped_configuration_stays_below_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(ROOT / "config" / "agent.toml", environment={})
    folder = tmp_path / "hf-agent-data"
    assert config.agent.data_dir == str(folder)
    assert Path(config.wal.dir).is_relative_to(folder)
    assert config.store.url == f"file://{folder}/store"
    for listen in config.listen:
        assert Path(os.path.abspath(listen.path)).is_relative_to(folder)
    assert {listen.protocol for listen in config.listen} == {"append", "forward", "lines", "syslog"}
    assert config.http.listen == "127.0.0.1:9477"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.toml")), ids=lambda p: p.name)
def test_shipped_configurations_are_right_also_with_every_comment_taken_out(path: Path) -> None:
    environment = {"HF_AGENT_BUCKET": "bucket", "POD_NAME": "pod"}
    shipped = load(path, environment=environment)
    text = re.sub(r"(?m)^# (?=(\w+ = |\[))", "", path.read_text())
    shown = parse(text, source=path.name, environment=environment)
    # What stands in comments is what holds without them.
    assert msgspec.to_builtins(shown) == msgspec.to_builtins(shipped)
