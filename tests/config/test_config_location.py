"""Finding the line on which a key stands."""

from __future__ import annotations

import textwrap

from hf_agent.config.location import Locations, dotted

TEXT = textwrap.dedent(
    '''\
    top = 1
    [agent]                     # a comment
    node = "a#b"  # another
    text = """
    fake = 1
    [fake]
    """
    list = [
      "x = 1",   # ]
      [2],
    ]
    [[listen]]
    path = 'one'
    [[listen]]
    "path" = "two"
    inner.deep = 3
    [store.s3]
    region = ""
    [ store . "quoted" ]
    key = true
    '''
)


def line_of(*path: str | int) -> int | None:
    line = Locations(TEXT).find(path)
    return line.number if line else None


def test_keys_and_tables_are_found() -> None:
    assert line_of("top") == 1
    assert line_of("agent") == 2
    assert line_of("agent", "node") == 3
    assert line_of("store", "s3", "region") == 18
    assert line_of("store", "quoted", "key") == 20


def test_entries_of_an_array_of_tables_are_told_apart() -> None:
    assert line_of("listen", 0, "path") == 13
    assert line_of("listen", 1) == 14
    assert line_of("listen", 1, "path") == 15
    assert line_of("listen", 1, "inner", "deep") == 16


def test_text_inside_of_strings_and_arrays_is_no_key() -> None:
    assert Locations(TEXT).value(("agent", "fake")) is None
    assert Locations(TEXT).value(("agent", "x")) is None
    assert line_of("fake") is None
    assert line_of("agent", "list") == 8


def test_a_value_is_shown_without_its_comment() -> None:
    locations = Locations(TEXT)
    assert locations.value(("agent", "node")) == '"a#b"'
    assert locations.value(("agent", "list")) == "["
    assert locations.value(("agent",)) is None


def test_what_is_not_there_has_the_line_of_the_table_around_it() -> None:
    assert line_of("listen", 1, "mode") == 14
    assert line_of("store", "s3", "profile") == 17
    assert line_of("flush", "interval") is None


def test_names_are_dotted_with_indexes() -> None:
    assert dotted(("listen", 0, "path")) == "listen[0].path"
    assert dotted(("wal",)) == "wal"
