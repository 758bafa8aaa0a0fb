"""`config example` and `config schema`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hf_agent.cli.main import main
from hf_agent.config.example import example
from hf_agent.config.schema import schema


def test_an_example_can_be_checked_as_it_comes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "example"]) == 0
    text = capsys.readouterr().out
    assert text == example(["append"], "directory")
    path = tmp_path / "agent.toml"
    path.write_text(text)
    assert main(["check-config", "--config", str(path)]) == 0


def test_an_example_has_the_sockets_and_the_store_that_were_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    args = ["--protocol", "lines", "--protocol", "append", "--protocol", "lines", "--store", "s3"]
    assert main(["config", "example", *args]) == 0
    assert capsys.readouterr().out == example(["lines", "append"], "s3")


def test_the_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()
