"""Prometheus and its promtool, where this machine has them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml

__all__ = ["Prometheus", "program", "quickened"]

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"(?<=\[)(\d+)([smh])(?=\])|(?<=offset )(\d+)([smh])")


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; skips the test where there is none.

    `HF_AGENT_PROMETHEUS` names the directory that holds both, if they are not on the PATH.
    """
    folder = os.environ.get("HF_AGENT_PROMETHEUS")
    found = shutil.which(name, path=folder) if folder else shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}: install Debian's package prometheus, or set HF_AGENT_PROMETHEUS")
    return str(Path(found).resolve())


def quickened(rules: Path, factor: int, *, replaced: dict[str, str]) -> str:
    """The same rules, with every duration shorter by `factor`.

    `replaced` says what becomes of numbers of seconds in expressions; each must be there.
    """

    def shorter(match: re.Match[str]) -> str:
        number, unit = match[1] or match[3], match[2] or match[4]
        return f"{int(number) * _SECONDS[unit] // factor}s"

    document = yaml.safe_load(rules.read_text())
    left = set(replaced)
    for group in document["groups"]:
        for rule in group["rules"]:
            rule["expr"] = _DURATION.sub(shorter, rule["expr"])
            for old, new in replaced.items():
                if old in rule["expr"]:
                    left.discard(old)
                    rule["expr"] = rule["expr"].replace(old, new)
            if "for" in rule:
                number, unit = rule["for"][:-1], rule["for"][-1]
                rule["for"] = f"{int(number) * _SECONDS[unit] // factor}s"
    assert not left
    return str(yaml.safe_dump(document))


class Prometheus:
    """A server that scrapes and evaluates once a second, and keeps its data below `folder`."""

    def __init__(self, folder: Path, *, rules: str, target: str, port: int) -> None:
        """`target` is an agent's host:port; `port`, on the loopback, is for this server."""
        folder.mkdir()
        self.url = f"http://127.0.0.1:{port}"
        (folder / "alerts.yaml").write_text(rules)
        (folder / "prometheus.yaml").write_text(
            f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [alerts.yaml]
scrape_configs:
  - job_name: hf-agent
    static_configs: [{{targets: ["{target}"]}}]
"""
        )
        self.log = folder / "prometheus.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program("prometheus"),
                    f"--config.file={folder}/prometheus.yaml",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(60)

    def ask(self, path: str) -> Any:
        """What its API answers, or None while it does not."""
        try:
            with urlopen(f"{self.url}/api/v1/{path}", timeout=10) as answer:
                return json.load(answer)["data"]
        except OSError:
            assert self._process.poll() is None, self.log.read_text()
            return None

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        found = self.ask("alerts") or {"alerts": []}
        return {
            each["labels"]["alertname"] for each in found["alerts"] if each["state"] == "firing"
        }

    def until(self, what: str, condition: Callable[[], bool], *, seconds: float = 180.0) -> None:
        """Return when `condition` holds: it depends on scrapes, of which nobody sends word."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}; {self.firing()}"
            time.sleep(0.25)
