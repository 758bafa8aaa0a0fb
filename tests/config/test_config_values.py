"""Sizes, durations, modes, counts and variables as they are written."""

from __future__ import annotations

import socket

import pytest

from hf_agent.config.expand import expand
from hf_agent.config.listen_address import TcpAddress, UnixAddress, parse_listen_address
from hf_agent.config.units import parse_count, parse_duration, parse_mode, parse_size


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (0, 0),
        (4096, 4096),
        ("4096", 4096),
        ("64MiB", 64 << 20),
        ("64 MiB", 64 << 20),
        ("64mib", 64 << 20),
        ("8KB", 8000),
        ("1.5KiB", 1536),
        ("8GiB", 8 << 30),
        ("1TB", 10**12),
        ("17B", 17),
    ],
)
def test_sizes_are_bytes_or_have_a_unit(text: object, value: int) -> None:
    assert parse_size(text) == value


@pytest.mark.parametrize(
    "text", [-1, True, 1.5, "", "MiB", "64M", "64Mbi", "-1KB", "1.0001KB", None, [1]]
)
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (5, 5.0),
        (0.25, 0.25),
        ("500ms", 0.5),
        ("5s", 5.0),
        ("10m", 600.0),
        ("1h", 3600.0),
        ("2d", 172_800.0),
        ("1.5s", 1.5),
        ("7", 7.0),
    ],
)
def test_durations_are_seconds_or_have_a_unit(text: object, value: float) -> None:
    assert parse_duration(text) == pytest.approx(value)


@pytest.mark.parametrize("text", [-1, float("inf"), float("nan"), True, "", "5 parsecs", "-5s"])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "value"), [("0660", 0o660), ("660", 0o660), ("0o600", 0o600)])
def test_modes_are_octal_strings(text: str, value: int) -> None:
    assert parse_mode(text) == value


@pytest.mark.parametrize("text", [660, 0o660, "0680", "01777", "rw-rw----", ""])
def test_a_mode_that_could_be_misread_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="octal string"):
        parse_mode(text)


def test_counts_may_come_from_the_environment_as_text() -> None:
    assert parse_count("12") == parse_count(12) == 12
    for text in ("1.5", "", "-1", 1.5, True, "0x10"):
        with pytest.raises(ValueError, match="whole number"):
            parse_count(text)


def test_variables_are_replaced_anywhere_in_a_string() -> None:
    environment = {"A": "one", "EMPTY": ""}
    assert expand("${A}/x/${A}", environment) == "one/x/one"
    assert expand("${B:-two}", environment) == "two"
    assert expand("${B:-}", environment) == ""
    assert expand("[${EMPTY}]", environment) == "[]"
    assert expand("${EMPTY:-default}", environment) == "default"
    assert expand("no variable: $A $ {A} $$", environment) == "no variable: $A $ {A} $$"


def test_two_dollars_keep_a_reference_as_it_is() -> None:
    assert expand("$${A} ${A}", {"A": "one"}) == "${A} one"


def test_a_value_is_not_expanded_twice() -> None:
    assert expand("${A}", {"A": "${B}", "B": "no"}) == "${B}"


def test_an_undefined_variable_is_named() -> None:
    with pytest.raises(ValueError, match="NOPE is not set"):
        expand("x${NOPE}", {})


@pytest.mark.parametrize("text", ["${", "${}", "${A", "${A:=x}", "${1A}"])
def test_a_reference_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="begins no variable"):
        expand(text, {"A": "one"})


def test_the_hosts_name_stands_in_for_an_unset_hostname() -> None:
    assert expand("${HOSTNAME}", {}) == socket.gethostname()
    assert expand("${HOSTNAME}", {"HOSTNAME": "given"}) == "given"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9477", TcpAddress("127.0.0.1", 9477)),
        ("localhost:0", TcpAddress("localhost", 0)),
        (":9477", TcpAddress("", 9477)),
        ("[::1]:9477", TcpAddress("::1", 9477)),
        ("/run/hf-agent/http.sock", UnixAddress("/run/hf-agent/http.sock")),
        ("./http.sock", UnixAddress("./http.sock")),
        ("", None),
    ],
)
def test_http_listens_on_a_port_or_a_path(text: str, address: object) -> None:
    assert parse_listen_address(text) == address
    if address is not None:
        assert str(address) == text


@pytest.mark.parametrize(
    "text", ["9477", "::1:9477", "host:", "host:65536", "a b:x", "/", "/" * 200]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not"):
        parse_listen_address(text)
