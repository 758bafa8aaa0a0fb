"""What a `[listen.syslog]` table may say."""

from __future__ import annotations

import pytest

from hf_agent.config import ConfigError, Syslog, parse

LISTEN = """
[[listen]]
path = "/run/a.sock"
protocol = "{protocol}"
{keys}
[listen.syslog]
{table}
[store]
url = "file:///srv/logs"
"""


def config(table: str = "", keys: str = 'stream = "app"', protocol: str = "syslog") -> Syslog:
    return parse(LISTEN.format(protocol=protocol, keys=keys, table=table)).listen[0].syslog


def test_everything_has_a_default() -> None:
    assert config() == Syslog()
    assert config('socket = "datagram"', 'stream = "log/{app_name}-{facility}"') == Syslog(
        socket="datagram"
    )


def test_a_datagram_socket_may_have_lists_of_who_may_send() -> None:
    lists = 'stream = "a"\nallow_uids = [1]\nallow_gids = ["adm"]'
    table = 'socket = "datagram"\nformat = "json"\ncredentials = true'
    assert config(table, lists).credentials


@pytest.mark.parametrize(
    ("table", "keys", "message"),
    [
        ('socket = "tcp"', 'stream = "a"', 'not one of "stream", "datagram"'),
        ('format = "xml"', 'stream = "a"', 'not one of "raw", "json"'),
        ('fallback_stream = ""', 'stream = "a"', "not a stream's name"),
        ('format = "json"\nraw_framing = "octets"', 'stream = "a"', "has lines of its own"),
        ("datagram_queue = 5", 'stream = "a"', "only a datagram socket has this"),
        ("receive_buffer_bytes = 5", 'stream = "a"', "only a datagram socket has this"),
        ('socket = "datagram"\ndatagram_queue = 9999999', 'stream = "a"', "must be from 0"),
        ('socket = "datagram"\ntrailer = "nul"', 'stream = "a"', "a datagram is a message"),
        ('socket = "datagram"\noctet_counting = false', 'stream = "a"', "a datagram is a message"),
        ("credentials = true", 'stream = "a"', "raw messages have no room for it"),
        ("credentials = 1", 'stream = "a"', "not a flag: write true or false"),
        ("", "", "needs a stream"),
        ("", 'stream = "{first_line}"', "between braces there is app_name"),
        ("", 'stream = "/{app_name}"', "not a stream's name"),
        ("", 'stream = "a b"', "not a stream's name"),
        ("", 'stream = "a"\nmax_record_bytes = 100', "must be at least 2048"),
    ],
)
def test_mistakes_are_told(table: str, keys: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(table, keys)
    assert message in str(caught.value)
    assert len(str(caught.value).strip().splitlines()) <= 2, "one mistake, one line"


def test_other_protocols_do_not_have_the_table() -> None:
    with pytest.raises(ConfigError, match="does not have this table"):
        config('socket = "datagram"', protocol="lines")
