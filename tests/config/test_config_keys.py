"""What is known of each key: its page in docs, its JSON Schema, its example."""

from __future__ import annotations

import itertools
import json
import runpy
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from hf_agent.config import ConfigError, parse
from hf_agent.config.example import STORES, example
from hf_agent.config.keys import keys
from hf_agent.config.meanings import MEANINGS
from hf_agent.config.schema import schema

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"HF_AGENT_BUCKET": "bucket", "POD_NAME": "pod"}
PROTOCOLS = ("append", "lines", "forward", "syslog")
MINIMAL = '[[listen]]\npath = "/run/a.sock"\n[store]\nurl = "file:///s"\n'


def faults(text: str) -> list[str]:
    """What the schema says against a configuration."""
    validator = Draft202012Validator(schema())
    return [error.json_path for error in validator.iter_errors(tomllib.loads(text))]


def test_every_key_has_a_meaning_and_no_meaning_is_of_another() -> None:
    assert sorted(MEANINGS) == sorted(key.name for key in keys())


def test_the_page_lists_what_the_code_has() -> None:
    page = ROOT / "docs" / "configuration.md"
    made = runpy.run_path(str(ROOT / "docs" / "configuration_page.py"))["page"](page.read_text())
    assert page.read_text() == made, "run python docs/configuration_page.py"
    assert all(f"| `{key.name}` |" in made for key in keys())


def test_a_default_that_is_written_out_changes_nothing() -> None:
    config = parse(MINIMAL, environment=ENVIRONMENT)
    written = 0
    for key in keys():
        table, _, name = key.name.rpartition(".")
        if key.default is None or table in ("listen[]", "store"):
            continue
        heading = f"[{table.replace('[]', '')}]"
        text = f"{MINIMAL}{heading}\n{name} = {key.default}\n"
        assert parse(text, environment=ENVIRONMENT) == config, key.name
        written += 1
    assert written > 50


# -- schema ----------------------------------------------------------------------------------------


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(schema())
    assert json.loads(msgspec.json.encode(schema())) == schema()


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.toml")), ids=lambda p: p.name)
def test_the_schema_takes_the_shipped_configurations(path: Path) -> None:
    assert faults(path.read_text()) == []


def test_the_schema_takes_every_default_and_variables_in_place_of_any_value() -> None:
    for key in keys():
        table, _, name = key.name.rpartition(".")
        if key.default is None or table in ("listen[]", "store"):
            continue
        for value in (key.default, '"${SOME_VARIABLE}"'):
            if value.startswith('"$') and key.default == "[]":
                continue
            text = f"{MINIMAL}[{table}]\n{name} = {value}\n".replace("[listen[].", "[listen.")
            assert faults(text) == [], key.name


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("[wal]\nfile_byte = 1", "$.wal"),
        ('[wal]\nfile_bytes = "64 apples"', "$.wal.file_bytes"),
        ('[flush]\ninterval = "soon"', "$.flush.interval"),
        ('[wal]\nwhen_full = "explode"', "$.wal.when_full"),
        ("[wal]\nmax_producers = -1", "$.wal.max_producers"),
        ("[store.s3]\nsse_bucket_key = 1", "$.store.s3.sse_bucket_key"),
        ("[nonsense]\na = 1", "$"),
    ],
)
def test_the_schema_marks_what_a_file_cannot_say(text: str, path: str) -> None:
    assert faults(f"{MINIMAL}{text}\n") == [path]
    with pytest.raises(ConfigError):
        parse(f"{MINIMAL}{text}\n", environment=ENVIRONMENT)


def test_the_schema_asks_for_the_keys_without_a_default() -> None:
    assert faults('[store]\nurl = "file:///s"\n') == ["$"]
    assert faults('listen = []\n[store]\nurl = "file:///s"\n') == ["$.listen"]
    assert faults('[[listen]]\npath = "/run/a.sock"\n[store]\n') == ["$.store"]


# -- example ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(
    "protocols",
    [c for n in (1, 2, 4) for c in itertools.combinations(PROTOCOLS, n)],
    ids="+".join,
)
def test_an_example_is_right_with_its_comments_and_without(
    protocols: tuple[str, ...], store: str
) -> None:
    text = example(protocols, store)
    config = parse(text, environment=ENVIRONMENT)
    assert tuple(listen.protocol for listen in config.listen) == protocols
    lines = [
        line[1:] if line[:1] == "#" and line[1:2] != " " else line for line in text.split("\n")
    ]
    assert parse("\n".join(lines), environment=ENVIRONMENT) == config
    assert max(map(len, lines)) <= 100


def test_an_example_of_everything_shows_every_key() -> None:
    shown: dict[str, Any] = {}
    for line in example(PROTOCOLS, "s3").split("\n"):
        if line.startswith("["):
            table = line.strip("[]").replace("listen", "listen[]")
        elif line[:1] != "" and line[:2] != "# ":
            shown[f"{table}.{line.lstrip('#').partition(' =')[0]}"] = line
    assert set(shown) == {key.name for key in keys()}
