"""Who may write what, and how much: the values that are taken, and every mistake."""

from __future__ import annotations

import pytest

from hf_agent.config import ConfigError, Listen, parse


def listen(*lines: str, protocol: str = "append", **environment: str) -> Listen:
    text = "\n".join(
        (
            "[[listen]]",
            'path = "/run/a.sock"',
            f'protocol = "{protocol}"',
            *lines,
            "[store]",
            'url = "file:///srv/logs"',
        )
    )
    return parse(text, source="agent.toml", environment=environment).listen[0]


def error_of(*lines: str, protocol: str = "append") -> str:
    with pytest.raises(ConfigError) as caught:
        listen(*lines, protocol=protocol)
    (message,) = caught.value.messages
    assert message.startswith("agent.toml:")
    return message.split(": ", 1)[1]


def test_everybody_may_write_everything_by_default() -> None:
    default = listen()
    assert default.allow_uids == default.allow_gids == default.allow_streams == ()
    assert default.max_connections_per_uid == 0


def test_users_and_groups_are_numbers_or_names_also_from_the_environment() -> None:
    found = listen(
        'allow_uids = [0, "1000", "www-data", "${WRITER}", 4294967294]',
        'allow_gids = ["adm", "host$"]',
        WRITER="app",
    )
    assert found.allow_uids == ("0", "1000", "www-data", "app", "4294967294")
    assert found.allow_gids == ("adm", "host$")


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("[-1]", "not a number of a user or group: they are from 0 to 4294967294"),
        ("[4294967295]", "not a number of a user or group: they are from 0 to 4294967294"),
        ("[1.5]", "not a user or group: give a number, or a name in quotes"),
        ("[true]", "not a user or group"),
        ('[""]', "not a user or group"),
        ('["-1"]', "not a user or group"),
        ('["a b"]', "not a user or group"),
        ("[[0]]", "not a user or group"),
    ],
)
@pytest.mark.parametrize("key", ["allow_uids", "allow_gids"])
def test_what_is_no_user_or_group_is_refused(key: str, value: str, what: str) -> None:
    assert error_of(f"{key} = {value}").startswith(f"listen[0].{key}[0]: {what}")


def test_the_entry_that_is_wrong_is_named() -> None:
    assert error_of("allow_uids = [0, 1, -2]").startswith("listen[0].allow_uids[2]: ")


@pytest.mark.parametrize("key", ["allow_uids", "allow_gids", "allow_streams"])
def test_a_value_that_is_no_list_is_refused(key: str) -> None:
    assert "not a list: put the values in square brackets" in error_of(f'{key} = "a"')


@pytest.mark.parametrize("key", ["allow_uids", "allow_gids"])
def test_too_long_a_list_is_refused(key: str) -> None:
    assert "too many entries: at most 1024" in error_of(f"{key} = {list(range(1025))}")


@pytest.mark.parametrize("pattern", ["app", "app/*", "*", "**", "app/**", "a*b/*-log", "a/*.x*"])
def test_patterns_of_streams_are_taken(pattern: str) -> None:
    assert listen(f'allow_streams = ["{pattern}"]').allow_streams == (pattern,)


@pytest.mark.parametrize("pattern", ["", "/", "/app", "app/", "a//b", "../x", "a b", "[ab]", "a?"])
def test_what_could_match_no_stream_is_refused(pattern: str) -> None:
    message = error_of(f'allow_streams = ["x", "{pattern}"]')
    assert message.startswith("listen[0].allow_streams[1]: not a pattern of streams: use letters")


@pytest.mark.parametrize("pattern", ["a**", "**/a", "**b", "a/**/b", "***"])
def test_two_stars_stand_only_at_the_end(pattern: str) -> None:
    message = error_of(f'allow_streams = ["{pattern}"]')
    assert message.endswith("** stands for all below, only as the whole last segment")


def test_a_list_of_streams_says_nothing_where_there_is_one_stream() -> None:
    message = error_of('stream = "app"', 'allow_streams = ["app"]', protocol="lines")
    assert message.endswith('all of this socket goes to stream "app" anyway: remove this key')
    listen('stream = "{first_line}"', 'allow_streams = ["app"]', protocol="lines")
    listen('stream = "{tag}"', 'allow_streams = ["app"]', protocol="forward")


def test_the_limit_for_a_user_is_one_below_that_of_the_socket() -> None:
    assert listen("max_connections_per_uid = 5").max_connections_per_uid == 5
    for value in (-1, 11):
        message = error_of("max_connections = 10", f"max_connections_per_uid = {value}")
        assert message.endswith("must be from 0 (no limit) to max_connections (10)")
    assert "not a whole number" in error_of("max_connections_per_uid = 1.5")


@pytest.mark.parametrize("what", ["connection", "stream"])
def test_rates_are_none_or_of_a_size_that_makes_sense(what: str) -> None:
    rate, burst = f"{what}_bytes_per_second", f"{what}_burst_bytes"
    found = listen(f'{rate} = "1MiB"', f'{burst} = "16KiB"')
    assert (getattr(found, rate), getattr(found, burst)) == (1 << 20, 16 << 10)
    assert getattr(listen(f"{rate} = 0"), rate) == 0
    for value in (1, 1023, '"2TiB"'):
        assert "must be 0 (no limit), or from 1024 to" in error_of(f"{rate} = {value}")
    assert "a size cannot be negative" in error_of(f"{rate} = -1")
    for value in (1, '"2TiB"'):
        message = error_of(f"{rate} = 1024", f"{burst} = {value}")
        assert f"listen[0].{burst}" in message and "must be 0 (what the rate gives" in message
    message = error_of(f"{burst} = 65536")
    assert message.endswith(f"a burst says nothing without a rate: set {rate}, or remove this key")


def test_the_idle_timeout_is_never_or_a_second_or_more() -> None:
    assert listen().idle_timeout == 0
    assert listen('idle_timeout = "10m"').idle_timeout == 600
    for value in ('"500ms"', '"31d"'):
        message = error_of(f"idle_timeout = {value}")
        assert message.endswith("must be 0 (never), or from 1 second to 30 days")
    assert "not a duration" in error_of("idle_timeout = -1")


@pytest.mark.parametrize(
    "key",
    [
        *("max_connections_per_uid", "idle_timeout"),
        *("connection_bytes_per_second", "stream_bytes_per_second"),
    ],
)
def test_what_needs_connections_is_refused_on_a_datagram_socket(key: str) -> None:
    lines = ('stream = "log"', f"{key} = 1024", "[listen.syslog]", 'socket = "datagram"')
    message = error_of(*lines, protocol="syslog")
    assert message.startswith(f"listen[0].{key} = 1024: a datagram socket has no connections to")
