"""Fuzzes one parser, guided by coverage: `guided.py TARGET [options of libFuzzer]`.

Wants the package `atheris`. The names of targets are the keys of `fuzz.targets.TARGETS`.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["hf_agent.ingest"]):
    from fuzz.targets import TARGETS

from fuzz.checks import check


def main() -> None:
    """Run until libFuzzer's options say to stop, or something is found."""
    name, *options = sys.argv[1:]
    target = TARGETS[name]

    def one(data: bytes) -> None:
        check(target, data, random.Random(len(data)))

    with TemporaryDirectory() as corpus:
        for number, data in enumerate(target.corpus):
            (Path(corpus) / str(number)).write_bytes(data)
        atheris.Setup([sys.argv[0], *options, corpus], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
