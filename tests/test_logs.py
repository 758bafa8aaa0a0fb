"""Logging: one stream, two formats, levels."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from hf_agent.logs import LEVELS, set_level, setup


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging belongs to the process: give it back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_json_is_one_object_a_line_with_what_matters_first() -> None:
    stream = io.StringIO()
    setup("info", "auto", stream=stream)
    structlog.get_logger("hf_agent.x").info("flushed", stream="a\nb", bytes=3)
    line = stream.getvalue()
    assert line.count("\n") == 1
    event = json.loads(line)
    assert list(event)[:3] == ["timestamp", "level", "message"]
    assert event["timestamp"].endswith("Z")
    assert (event["level"], event["message"], event["logger"]) == ("info", "flushed", "hf_agent.x")
    assert (event["stream"], event["bytes"]) == ("a\nb", 3)


def test_records_of_the_standard_library_look_the_same() -> None:
    stream = io.StringIO()
    setup("info", "json", stream=stream)
    logging.getLogger("somebody").warning("%d things", 3, extra={"where": "here"})
    event = json.loads(stream.getvalue())
    assert event["message"] == "3 things"
    assert (event["level"], event["logger"], event["where"]) == ("warning", "somebody", "here")


def test_an_exception_is_part_of_its_line() -> None:
    stream = io.StringIO()
    setup("info", "json", stream=stream)
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError: broken" in json.loads(line)["exception"]


def test_auto_is_console_on_a_terminal() -> None:
    stream = Terminal()
    setup("info", "auto", stream=stream)
    structlog.get_logger().info("flushed", bytes=3)
    assert "flushed" in stream.getvalue()
    with pytest.raises(json.JSONDecodeError):
        json.loads(stream.getvalue())


def test_what_is_below_the_level_is_not_written_and_the_level_can_change() -> None:
    stream = io.StringIO()
    setup("warning", "json", stream=stream)
    log = structlog.get_logger("x")
    log.info("no")
    log.warning("yes")
    set_level("debug")
    log.debug("yes")
    logging.getLogger("botocore").info("a library's chatter")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == [
        "yes",
        "yes",
    ]


def test_setup_again_replaces_what_was_set_up_before() -> None:
    first, second = io.StringIO(), io.StringIO()
    setup("info", "json", stream=first)
    log = structlog.get_logger("x")
    log.info("one")
    setup("info", "json", stream=second)
    log.info("two")
    assert json.loads(first.getvalue())["message"] == "one"
    assert json.loads(second.getvalue())["message"] == "two"


def test_every_level_has_a_name_that_works() -> None:
    for level in LEVELS:
        setup(level, "json", stream=io.StringIO())
