"""Fuzzes parsers, guided by coverage: `guided.py TARGET [options of libFuzzer]`.

Wants the package `atheris`. The names of targets are the keys of `fuzz.targets.TARGETS`; `all` is
every one of them in one process, and the first byte of the input says which one the rest is for.
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

ALL = "all"


def corpus_of(name: str) -> list[bytes]:
    """What libFuzzer begins with."""
    if name != ALL:
        return list(TARGETS[name].corpus)
    return [
        bytes([place]) + data for place, each in enumerate(TARGETS) for data in TARGETS[each].corpus
    ]


def main() -> None:
    """Run until libFuzzer's options say to stop, or something is found."""
    name, *options = sys.argv[1:]
    targets = list(TARGETS.values())

    def one(data: bytes) -> None:
        if name != ALL:
            check(TARGETS[name], data, random.Random(len(data)))
        elif data:
            check(targets[data[0] % len(targets)], data[1:], random.Random(len(data)))

    with TemporaryDirectory() as corpus:
        for number, data in enumerate(corpus_of(name)):
            (Path(corpus) / str(number)).write_bytes(data)
        atheris.Setup([sys.argv[0], *options, corpus], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
