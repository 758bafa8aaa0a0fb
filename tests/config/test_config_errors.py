"""Every kind of mistake in a configuration, and the line that explains it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hf_agent.config import ConfigError, load, parse

MINIMAL = """\
[[listen]]
path = "/run/a.sock"
[store]
url = "file:///srv/logs"
"""


def errors_of(text: str, **environment: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, source="agent.toml", environment=environment)
    assert str(caught.value) == "\n".join(caught.value.messages)
    return list(caught.value.messages)


def error_of(text: str, **environment: str) -> str:
    (message,) = errors_of(text, **environment)
    assert "\n" not in message
    return message


def with_table(table: str, *lines: str) -> str:
    return MINIMAL + f"[{table}]\n" + "\n".join(lines) + "\n"


def test_an_unknown_key_is_shown_with_the_nearest_known_one() -> None:
    message = error_of(MINIMAL.replace("path =", "mod = '0600'\npath ="))
    assert message == (
        "agent.toml:2: listen[0].mod = '0600': unknown key; the nearest known key is listen[0].mode"
    )


def test_a_key_of_another_table_is_recognised() -> None:
    message = error_of(with_table("wal", "block_size = 4096"))
    assert message.endswith(
        "wal.block_size = 4096: unknown key; the nearest known key is flush.block_size"
    )


def test_an_unknown_table_is_refused() -> None:
    message = error_of(with_table("flusher", "interval = 1"))
    assert message.startswith("agent.toml:5: flusher: unknown key")
    assert "the nearest known key is flush" in message


def test_a_key_that_resembles_nothing_still_gets_a_hint() -> None:
    message = error_of(with_table("http", "xyzzy = 1"))
    assert "the nearest known key is http.listen" in message


def test_an_unknown_protocol_is_refused() -> None:
    assert 'not one of "append", "lines", "forward", "syslog"' in error_of(
        MINIMAL.replace("[store]", 'protocol = "gelf"\n[store]')
    )


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file() -> None:
    messages = errors_of(
        """\
[[listen]]
path = ""
protocl = "lines"
[wal]
max_bytes = "1 lightyear"
[flush]
block_size = 5000
[store]
key = "logs"
"""
    )
    assert [re.match(r"agent\.toml:(\d+): ([^ :]+)", m).groups() for m in messages] == [  # type: ignore[union-attr]
        ("2", "listen[0].path"),
        ("3", "listen[0].protocl"),
        ("5", "wal.max_bytes"),
        ("7", "flush.block_size"),
        ("8", "store.url"),
        ("9", "store.key"),
    ]


def test_an_empty_file_names_what_has_no_default() -> None:
    assert errors_of("") == [
        "agent.toml: listen: missing: add at least one [[listen]] table",
        "agent.toml: store.url: missing: it has no default",
    ]


def test_a_listener_without_a_path_is_refused() -> None:
    message = error_of(MINIMAL.replace('path = "/run/a.sock"', 'mode = "0600"'))
    assert message == "agent.toml:1: listen[0].path: missing: it has no default"


def test_broken_toml_is_shown_with_its_line() -> None:
    message = error_of("[agent]\nnode = = 1\n")
    assert message == "agent.toml:2: node = = 1: not valid TOML: invalid value"
    assert error_of('[agent]\nnode = "x').startswith('agent.toml:2: node = "x: not valid TOML')
    assert "cannot overwrite" in error_of("[http]\nlisten = ''\nlisten = ''\n").lower()


@pytest.mark.parametrize(
    ("table", "line", "what"),
    [
        ("agent", "node = 3", "not a string"),
        ("agent", 'node = "a b"', "not a node's name"),
        ("agent", 'node = ""', "not a node's name"),
        ("agent", 'data_dir = ""', "empty"),
        ("agent", "data_dir = 1", "not a string"),
        ("agent", 'data_dir = "a\\u0000b"', "NUL"),
        ("agent", "max_streams = 0", "must be from 1 to"),
        ("agent", "max_streams = 1.5", "not a whole number"),
        ("agent", "max_streams = true", "not a whole number"),
        ("wal", 'file_bytes = "64Mbi"', "not a size"),
        ("wal", "file_bytes = 1", "must be from"),
        ("wal", 'max_bytes = "100MiB"', "at least 3 times wal.file_bytes (67108864)"),
        ("wal", 'when_full = "blok"', 'not one of "block", "reject"; did you mean "block"?'),
        ("wal", 'max_batch_bytes = "32MiB"', "must not be above wal.max_pending_bytes"),
        ("wal", "max_producers = 0", "must be from 1 to"),
        ("wal", "max_chunk_ids = 0", "must be from 1 to"),
        ("wal", 'max_chunk_age = "31d"', "must be from 1 to"),
        ("flush", "interval = -1", "not a duration"),
        ("flush", "interval = inf", "not a duration"),
        ("flush", "interval = 0", "must be from"),
        ("flush", 'bytes = "2GiB"', "must be from"),
        ("flush", "concurrency = 0", "must be from 1"),
        ("flush", "block_size = 2048", "must be from 4096"),
        ("flush", 'block_size = "1GiB"', "must be from 4096"),
        ("flush", "block_size = 12288", "power of two"),
        ("flush", 'retry_min = "60s"', "must not be above flush.retry_max (30s)"),
        ("http", 'listen = "9477"', "not an address"),
        ("http", 'listen = "/run/a.sock"', "used already by listen[0].path"),
        ("log", 'level = "warn"', 'did you mean "warning"?'),
        ("log", 'format = "logfmt"', 'not one of "auto", "console", "json"'),
    ],
)
def test_a_value_out_of_bounds_says_what_it_must_be(table: str, line: str, what: str) -> None:
    message = error_of(with_table(table, line))
    key, _, value = line.partition(" = ")
    assert message.startswith(f"agent.toml:6: {table}.{key} = {value}: ")
    assert what in message


@pytest.mark.parametrize(
    ("hosts", "where", "what"),
    [
        (["a", "b:9477"], "[1]", "not a name of a host: write it without scheme, port and path"),
        (["https://a"], "[0]", "not a name of a host"),
        (["*.example.com"], "[0]", "not a name of a host"),
        (["-a"], "[0]", "not a name of a host"),
        ([""], "[0]", "not a name of a host"),
        (["a" * 254], "[0]", "not a name of a host"),
        (["a"] * 65, "", 'too many entries: at most 64, or "*" for any'),
    ],
)
def test_a_host_that_is_none_says_how_it_is_written(
    hosts: list[str], where: str, what: str
) -> None:
    message = error_of(with_table("http", f"allowed_hosts = {hosts}"))
    assert f"http.allowed_hosts{where}" in message
    assert what in message


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('path = "/run/a.sock/"', "names a directory"),
        (f'path = "/{"x" * 107}"', "too long for a Unix socket: 108 bytes, at most 107"),
        ("mode = 660", "octal string"),
        ("max_connections = 0", "must be from 1"),
        ("max_record_bytes = 0", "must be from 1"),
        ('max_record_bytes = "17MiB"', "at most a quarter of wal.file_bytes"),
        ('stream = "app"', 'protocol "append" names the stream with each append'),
        ('protocol = "lines"', "needs a stream"),
        ('protocol = "lines"\nstream = "/app"', "not a stream's name"),
        ('protocol = "lines"\nstream = "a/../b"', "not a stream's name"),
    ],
)
def test_what_a_listener_may_not_have(line: str, what: str) -> None:
    if line.startswith("path"):
        assert what in error_of(MINIMAL.replace('path = "/run/a.sock"', line))
    else:
        assert what in " ".join(errors_of(MINIMAL.replace("[store]", f"{line}\n[store]")))


FORWARD = MINIMAL.replace("[store]", 'protocol = "forward"\n[store]')


def with_forward(*lines: str) -> str:
    return FORWARD.replace("[store]", "\n".join(["[listen.forward]", *lines, "[store]"]))


def test_a_forward_table_needs_its_protocol() -> None:
    table = '[listen.forward]\nformat = "msgpack"\n[store]'
    message = error_of(MINIMAL.replace("[store]", table))
    assert 'protocol "append" does not have this table' in message


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('format = "jsn"', 'not one of "json", "msgpack"; did you mean "json"?'),
        ('time_key = "$time"', "must not begin with $"),
        ('time_key = "a\\"b"', "must not begin with $, nor hold quotes"),
        ('message_key = "a\\nb"', "control characters"),
        ('time_key = "map"', "taken for values that JSON cannot say"),
        ('tag_key = "time"', "must not be that of the time (time)"),
        ('format = "msgpack"\nmessage_key = "log"', 'format "msgpack" keeps entries as they come'),
        ('format = "msgpack"\ntag_key = "tag"', 'format "msgpack" keeps entries as they come'),
        ('fallback_stream = "a b"', "not a stream's name"),
        ("max_message_bytes = 100", "must be from 4096"),
        ('max_unpacked_bytes = "2GiB"', "must be from 4096"),
        ('max_message_bytes = "64MiB"', "must leave 65536 bytes of agent.receive_buffer_bytes"),
        ('[[listen.forward.users]]\nname = "a"\npassword = "b"', "users need a shared_key"),
        ('shared_key = "k"\nhostname = ""', "empty"),
        ('shared_key = "k"\n[[listen.forward.users]]\nname = "a"', "missing: it has no default"),
        ("timekey = 1", "the nearest known key is listen[0].forward.time_key"),
    ],
)
def test_what_a_forward_table_may_not_have(line: str, what: str) -> None:
    assert what in error_of(with_forward(line))


LINES = MINIMAL.replace("[store]", 'protocol = "lines"\nstream = "app"\n[store]')


def with_lines(*lines: str) -> str:
    return LINES.replace("[store]", "\n".join(["[listen.lines]", *lines, "[store]"]))


def test_a_lines_table_needs_its_protocol() -> None:
    message = error_of(MINIMAL.replace("[store]", "[listen.lines]\ncri = true\n[store]"))
    assert 'protocol "append" does not have this table' in message


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('format = "jsn"', 'not one of "raw", "json"; did you mean "json"?'),
        ('time_key = "at"', 'format "raw" writes no keys'),
        ('format = "json"\ntime_key = "$time"', "must not begin with $"),
        ('format = "json"\nmessage_key = "a\\"b"', "nor hold quotes"),
        ('format = "json"\nmessage_key = ""', "what a line says needs a key"),
        ('format = "json"\npid_key = "time"', "the same as time_key"),
        ('format = "json"\nstream_key = "s"', "remove this key, or set cri"),
        ("cri = 1", "not a flag"),
        ("start_pattern = '('", "missing )"),
        ("start_pattern = '(?=a)'", "not a regular expression (RE2 syntax)"),
        ("start_pattern = '\\Aa'", "'\\A' cannot stand here"),
        ("max_group_lines = 0", "must be from 1 to 100000"),
        ('max_group_bytes = "1GiB"', "must be from 1 to 268435456"),
        ("max_group_wait = 0", "must be from 0.001 to 3600"),
        ("start = 'x'", "the nearest known key is listen[0].lines.start_pattern"),
    ],
)
def test_what_a_lines_table_may_not_have(line: str, what: str) -> None:
    assert what in error_of(with_lines(line))


def test_a_lines_table_may_have_all_its_keys() -> None:
    config = parse(
        with_lines(
            'format = "json"',
            'time_key = "t"',
            'pid_key = ""',
            'uid_key = ""',
            'stream_key = "s"',
            'message_key = "m"',
            "cri = true",
            "start_pattern = '^\\d{4}-'",
            "max_group_lines = 50",
            'max_group_bytes = "64KiB"',
            'max_group_wait = "250ms"',
        ),
        environment={},
    )
    assert config.listen[0].lines.max_group_wait == 0.25


def test_two_forward_users_cannot_have_one_name() -> None:
    user = '[[listen.forward.users]]\nname = "a"\npassword = "b"'
    assert "the same name" in error_of(with_forward('shared_key = "k"', user, user))


@pytest.mark.parametrize("stream", ["{tag", "{tag[x]}", "{stream}", "a b"])
def test_what_a_forward_stream_may_not_be(stream: str) -> None:
    text = FORWARD.replace("[store]", f'stream = "{stream}"\n[store]')
    assert "not a " in error_of(text)


def test_secrets_do_not_stand_in_errors() -> None:
    text = with_forward('shared_key = "hunter2"', 'hostname = ""', 'time_key = "$"')
    assert "hunter2" not in " ".join(errors_of(text))


def test_a_record_must_fit_the_buffers_it_passes() -> None:
    assert "wal.max_pending_bytes" in error_of(
        with_table("wal", 'max_pending_bytes = "4MiB"', 'max_batch_bytes = "1MiB"')
    )
    assert "agent.receive_buffer_bytes" in error_of(
        with_table("agent", 'receive_buffer_bytes = "8MiB"')
    )


def test_two_listeners_cannot_share_a_path() -> None:
    message = error_of(MINIMAL + '[[listen]]\npath = "/run/../run/a.sock"\n')
    assert message.startswith('agent.toml:6: listen[1].path = "/run/../run/a.sock": used already')
    assert "listen[0].path" in message


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("", "empty"),
        ("/srv/logs", "unknown kind of store"),
        ("http://host/x", "unknown kind of store"),
        ("s3://", "no bucket"),
        ("s3:///key", "no bucket"),
        ("s3://user:secret@bucket", "credentials come from AWS_*"),
        ("file://host/path", "absolute path after three slashes"),
        ("file://", "absolute path after three slashes"),
        ("file:", "unknown kind of store"),
        ("file:///a?b", "have no meaning"),
    ],
)
def test_what_is_no_store_is_refused(url: str, what: str) -> None:
    message = error_of(MINIMAL.replace("file:///srv/logs", url))
    assert message.startswith(f'agent.toml:4: store.url = "{url}": ')
    assert what in message


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("logs", "must contain {stream}"),
        ("{node}", "must contain {stream}"),
        ("{stream}/{date}", "'{date}' means nothing here"),
        ("{stream}}", "'}' means nothing here"),
        ("/{stream}", "not a key"),
        ("{stream}/", "not a key"),
        ("a//{stream}", "not a key"),
        ("../{stream}", "not a key"),
        ("a b/{stream}", "not a key"),
    ],
)
def test_a_key_that_streams_would_share_or_that_is_no_path_is_refused(key: str, what: str) -> None:
    assert what in error_of(MINIMAL + f'key = "{key}"\n')


def test_an_endpoint_must_be_a_url() -> None:
    assert "not an endpoint" in error_of(with_table("store.s3", 'endpoint_url = "minio:9000"'))
    assert 'not one of "auto", "path", "virtual"' in error_of(
        with_table("store.s3", 'addressing = "paths"')
    )


def test_an_undefined_variable_is_named_with_its_key() -> None:
    message = error_of(with_table("agent", 'node = "${POD_NAME}"'))
    assert message.startswith(
        'agent.toml:6: agent.node = "${POD_NAME}": environment variable POD_NAME is not set'
    )


def test_tables_of_the_wrong_shape_are_refused() -> None:
    assert "not a table: begin one with [agent]" in error_of("agent = 1\n" + MINIMAL)
    assert "begin each with [[listen]]" in error_of(
        '[listen]\npath = "/run/a.sock"\n[store]\nurl = "s3://bucket"\n'
    )
    assert "not a table" in error_of('listen = [1]\n[store]\nurl = "s3://bucket"\n')


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: no such file or directory"):
        load(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="cannot be read: is a directory"):
        load(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'node = "\xe9"')
    with pytest.raises(ConfigError, match="not UTF-8 text: byte 8"):
        load(tmp_path / "latin.toml")
    (tmp_path / "huge.toml").write_bytes(b"#" * (1 << 20 | 1))
    with pytest.raises(ConfigError, match="larger than"):
        load(tmp_path / "huge.toml")
