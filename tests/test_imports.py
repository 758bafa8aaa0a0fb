"""The arrows between the layers: which package may import which, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "agent" / "hf_agent"

ALLOWED: dict[str, set[str]] = {
    # The libraries: each can be lifted out and used alone.
    "store": {"clock"},
    "hyperfile": {"clock", "store"},
    "fs": {"clock", "hyperfile", "store"},
    "wal": {"clock"},
    # What sits on them.
    "config": {
        *(
            "ingest.forward.stream_template",
            "ingest.lines.start_pattern",
            "ingest.syslog.stream_template",
            "ingest.stream_name",
            "ingest.stream_patterns",
            "store.url",
        ),
    },
    "metrics": {"", "native", "tallies"},
    "recent": set(),
    "tallies": set(),
    "logs": set(),
    "clock": set(),
    "native": set(),
    "ingest": {"clock", "metrics", "native", ""},
    "client": {"clock", "ingest"},
    "streams": {"clock", "metrics", "ingest.sink", "wal"},
    "flusher": {"clock", "metrics", "recent", "streams", "wal", "hyperfile", "store"},
    "web": {"metrics", "config.listen_address", "ingest.unix_socket"},
    # The outermost: wiring, and shells.
    "service": {
        *("", "clock", "config", "flusher", "ingest", "logs", "metrics", "native", "recent"),
        *("store", "streams", "tallies", "wal", "web"),
    },
    "cli": {
        *("", "client", "clock", "config", "hyperfile", "logs"),
        *("ingest.admission", "ingest.stream_name", "ingest.unix_socket"),
        *("service", "store", "streams.repaired", "wal", "web"),
    },
    "__main__": {"cli"},
}
"""Packages and modules of hf_agent that each may import beside its own; "" is `hf_agent` itself."""

FORBIDDEN_LIBRARIES = {
    "hyperfile": {
        "prometheus_client",
        "structlog",
        "aiohttp",
        "botocore",
        "aiobotocore",
        "msgspec",
    },
    "store": {"prometheus_client", "structlog", "msgspec"},
    "wal": {"prometheus_client", "structlog", "aiohttp", "asyncio", "botocore", "aiobotocore"},
    "ingest": {"botocore", "aiobotocore", "aiohttp"},
    "streams": {"botocore", "aiobotocore", "aiohttp"},
    "flusher": {"botocore", "aiobotocore", "aiohttp"},
}

SANS_IO = (
    "ingest/append_messages.py",
    "ingest/append_protocol.py",
    "ingest/forward/reader.py",
    "ingest/forward/scan.py",
    "ingest/lines/assembly.py",
    "ingest/lines/cri.py",
    "ingest/lines/cri_multiline.py",
    "ingest/lines/formats.py",
    "ingest/lines/multiline.py",
    "ingest/lines/newlines.py",
    "ingest/lines/open_groups.py",
    "ingest/lines/parser.py",
    "ingest/lines/start_pattern.py",
    "ingest/receive_buffer.py",
    "ingest/stream_name.py",
    "ingest/stream_patterns.py",
    "ingest/syslog/framing.py",
    "ingest/syslog/message.py",
    "ingest/syslog/sorter.py",
)


def imported(path: Path) -> set[str]:
    """Every module that a file names in an import, wherever it stands; relative ones fail."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), path.name)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            module = node.module or ""
            names.add(module)
            # `from hf_agent.wal import record` names a module, not an attribute.
            for alias in node.names:
                if (PACKAGE.parent / module.replace(".", "/") / f"{alias.name}.py").exists():
                    names.add(f"{module}.{alias.name}")
    return names


def files_of(package: str) -> list[Path]:
    single = PACKAGE / f"{package}.py"
    return [single] if single.exists() else sorted((PACKAGE / package).rglob("*.py"))


def test_every_package_has_its_rule() -> None:
    found = {
        path.stem
        for path in PACKAGE.iterdir()
        if path.name != "__init__.py" and (path.suffix == ".py" or (path / "__init__.py").exists())
    }
    assert found == set(ALLOWED)
    assert all(files_of(package) for package in ALLOWED)


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_follow_the_arrows(package: str) -> None:
    wrong = []
    for path in files_of(package):
        for name in imported(path):
            if name != "hf_agent" and not name.startswith("hf_agent."):
                continue
            inner = name.removeprefix("hf_agent").removeprefix(".")
            parts = inner.split(".")
            prefixes = {".".join(parts[: count + 1]) for count in range(len(parts))}
            if parts[0] != package and not prefixes & ALLOWED[package]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert wrong == []


@pytest.mark.parametrize("package", sorted(FORBIDDEN_LIBRARIES))
def test_libraries_stay_where_they_belong(package: str) -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in files_of(package)
        for name in imported(path)
        if name.partition(".")[0] in FORBIDDEN_LIBRARIES[package]
    ]
    assert wrong == []


@pytest.mark.parametrize("path", SANS_IO)
def test_parsers_know_neither_sockets_nor_tasks_nor_clocks(path: str) -> None:
    forbidden = {"asyncio", "socket", "selectors", "threading", "time", "os", "hf_agent.clock"}
    assert not imported(PACKAGE / path) & forbidden


def test_each_arrow_is_used() -> None:
    unused = {}
    for package, allowed in ALLOWED.items():
        names = {
            name.removeprefix("hf_agent").removeprefix(".")
            for path in files_of(package)
            for name in imported(path)
            if name == "hf_agent" or name.startswith("hf_agent.")
        }
        idle = {
            arrow
            for arrow in allowed
            if not any(name == arrow or (arrow and name.startswith(f"{arrow}.")) for name in names)
        }
        if idle:
            unused[package] = idle
    assert unused == {}


def test_the_directory_store_loads_no_s3_library_and_help_loads_no_agent() -> None:
    """One process: what these load is only visible in a fresh interpreter."""
    script = """
import sys
from hf_agent.cli.main import main
assert main(["--help"]) == 0
heavy = {"aiohttp", "botocore", "uvloop", "prometheus_client", "structlog", "rich", "msgspec"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
import hf_agent.store.url, hf_agent.hyperfile, hf_agent.wal, random
from hf_agent.clock import SystemClock
hf_agent.store.url.open_store("file:///nowhere", clock=SystemClock(), rng=random.Random(1))
heavy = {"aiohttp", "botocore", "aiobotocore", "prometheus_client", "structlog"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage: hf-agent" in done.stdout
