"""A copy of what the package is built from, and the package built there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.readme import ROOT

__all__ = ["SOURCES", "Built", "build", "copy_source", "wants_a_compiler"]

SOURCES = ("agent", "hatch_build.py", "pyproject.toml", "README.md", "LICENSE")

wants_a_compiler = pytest.mark.skipif(
    shutil.which("cc") is None or not Path(sysconfig.get_path("include"), "Python.h").exists(),
    reason="there is no C compiler, or no Python.h",
)

_OURS = ("HF_AGENT_NATIVE", "CC", "CFLAGS", "LDFLAGS", "SOURCE_DATE_EPOCH")


def copy_source(target: Path) -> Path:
    """Copy `SOURCES`, without what was made from them, into the new folder `target`."""
    target.mkdir(parents=True)
    made = shutil.ignore_patterns("__pycache__", "*.pyc", "*.so")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=made)
        else:
            shutil.copy(ROOT / name, target / name)
    return target


@dataclass(frozen=True)
class Built:
    """What came of a build: `made` is None when it failed."""

    made: Path | None
    said: str

    @property
    def file(self) -> Path:
        assert self.made is not None, self.said
        return self.made


def build(
    source: Path, kind: str = "wheel", *, env: Mapping[str, str] | None = None, umask: int = -1
) -> Built:
    """Build "wheel", "editable" or "sdist", as pip without isolation does.

    Of what `hatch_build.py` reads from the environment, only `env` counts.
    """
    folder = source.parent / f"{source.name}-{kind}"
    shutil.rmtree(folder, ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-c", f"import hatchling.build as b; b.build_{kind}({str(folder)!r})"],
        cwd=source,
        env={key: value for key, value in os.environ.items() if key not in _OURS} | dict(env or {}),
        umask=umask,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    assert "Traceback" not in done.stdout, done.stdout
    made = list(folder.iterdir()) if folder.exists() else []
    assert (done.returncode == 0) == (len(made) == 1), done.stdout
    return Built(made[0] if made else None, done.stdout)
