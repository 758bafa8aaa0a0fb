"""Whether the loops in C are there is known before anything depends on it, and never an error."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from hf_agent import native
from support.agent_process import AgentProcess


def ask(before: str) -> str:
    """Whether they are there, after these lines, in a fresh interpreter."""
    script = f"import sys\n{before}\nfrom hf_agent import native\nprint(native.available())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_they_are_there_when_they_were_compiled() -> None:
    if find_spec("hf_agent._native") is None:
        pytest.skip("hf_agent._native was not compiled")
    assert ask("") == "True"
    assert native.native is not None
    assert native.native.count_newlines(b"a\nb\n\n", 1, 5) == 3


def test_without_them_the_agent_is_pure_python() -> None:
    assert ask("sys.modules['hf_agent._native'] = None") == "False"


def test_an_extension_that_cannot_be_loaded_is_as_none(tmp_path: Path) -> None:
    (tmp_path / "_native.abi3.so").write_bytes(b"for another machine")
    assert ask(f"import hf_agent; hf_agent.__path__.insert(0, {str(tmp_path)!r})") == "False"


def test_the_log_and_the_metrics_say_whether_they_are_there(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path).start()
    metrics = agent.get("/metrics")[1]
    assert agent.stop() == 0, agent.log_text()
    lines = [json.loads(line) for line in agent.log_text().splitlines()]
    (ready,) = [line for line in lines if line["message"] == "ready"]
    assert ready["native"] is native.available()
    (labels,) = re.findall(r"^hf_agent_build_info\{(.*)\} 1\.0$", metrics, re.M)
    assert f'native="{str(native.available()).lower()}"' in labels.split(",")
