"""The loops in C touch no byte that is not theirs, whatever they are given."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "agent" / "native"
SEEDS = 1500
SANITIZERS = "-fsanitize=address,undefined -fno-sanitize-recover=all"
FLAGS = f"-std=c11 -O1 -g -shared -fPIC {SANITIZERS} -DKEPT_BYTES=0"


def library() -> str | None:
    """The address sanitizer's, which has to be there before the interpreter."""
    compiler = shutil.which("cc")
    if compiler is None or not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return None
    command = [compiler, "-print-file-name=libasan.so"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return found if os.path.isabs(found) else None


@pytest.mark.skipif(library() is None, reason="no C compiler with libasan and Python.h")
def test_no_byte_is_read_or_written_out_of_bounds(tmp_path: Path) -> None:
    module = tmp_path / "_native.so"
    include = f"-I{sysconfig.get_path('include')}"
    sources = map(str, SOURCES.glob("*.c"))
    subprocess.run(["cc", *FLAGS.split(), include, *sources, "-o", str(module)], check=True)
    first = random.SystemRandom().randrange(2**32)
    done = subprocess.run(
        [
            sys.executable,
            Path(__file__).with_name("check_lines.py"),
            str(SEEDS),
            str(first),
            module,
        ],
        env={
            **os.environ,
            "LD_PRELOAD": str(library()),
            "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter itself has some
            "PYTHONMALLOC": "malloc",  # each object is then a block with bounds of its own
        },
        capture_output=True,
        text=True,
        timeout=240,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert f"seeds={SEEDS} first={first} with_lines=" in done.stdout
