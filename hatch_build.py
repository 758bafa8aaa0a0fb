"""Compiles `hf_agent._native`, the loops in C of `agent/native`, when the package is built.

A wheel gets a build of its own; an editable installation has it in place. The environment:

    HF_AGENT_NATIVE     auto (or unset): where it can be compiled; else the package is pure Python
                        1, require: fail where it cannot
                        0, no: leave it out
    CC, CFLAGS, LDFLAGS as everywhere; the flags come after those below, and so win
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags  # hatchling itself needs it

MODULE = "_native.abi3.so"
WHETHER = {"": "auto", "auto": "auto", "1": "require", "require": "require", "0": "no", "no": "no"}
COMPILE = (
    *("-std=c11", "-O3", "-g0", "-Wall", "-Wextra", "-fvisibility=hidden"),
    # Bytes are read as what they stand for; and it reads what strangers send.
    *("-fno-strict-aliasing", "-fstack-protector-strong"),
)
LINK = ("-shared", "-fPIC", "-Wl,-z,relro,-z,now")


class CannotCompileError(Exception):
    """What is missing, or what the compiler said."""


class NativeBuildHook(BuildHookInterface[BuilderConfig]):
    """Adds the extension to a wheel, and the wheel's tag, or puts it into the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """`version`: "standard" or "editable"."""
        given = os.environ.get("HF_AGENT_NATIVE", "")
        if given not in WHETHER:
            self.app.abort(
                f"HF_AGENT_NATIVE must be auto, require (or 1) or no (or 0), and is {given!r}"
            )
        in_place = Path(self.root, "agent", "hf_agent", MODULE)
        if version == "editable":
            # Whatever follows, no old one stays: it would be of other C than what is there now.
            in_place.unlink(missing_ok=True)
        if WHETHER[given] == "no":
            self.app.display_info("hf_agent._native is left out: HF_AGENT_NATIVE says so")
            return
        self._scratch = tempfile.TemporaryDirectory(prefix="hf-agent-native-")
        built = Path(self._scratch.name, MODULE)
        try:
            said = compile_extension(Path(self.root), built)
        except CannotCompileError as error:
            if WHETHER[given] == "require":
                self.app.abort(
                    f"hf_agent._native cannot be compiled, and HF_AGENT_NATIVE={given} wants it: "
                    f"{error}"
                )
            self.app.display_warning(
                f"hf_agent._native is not compiled: {error}\n"
                "The package is pure Python: the same results, slower. (HF_AGENT_NATIVE=require "
                "makes this an error, HF_AGENT_NATIVE=no asks for it.)"
            )
            return
        if said:
            self.app.display_warning(said)
        if version == "editable":
            shutil.copy(built, in_place)
        else:
            build_data["force_include"][str(built)] = f"hf_agent/{MODULE}"
            build_data["pure_python"] = False
            build_data["tag"] = f"cp311-abi3-{platform()}"
        self.app.display_info("hf_agent._native is compiled")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Nothing is left behind but the artifact."""
        if hasattr(self, "_scratch"):
            self._scratch.cleanup()


def platform() -> str:
    """This machine's, as wheels name it; what was built here promises no older C library."""
    return next(each for each in platform_tags() if each.startswith("linux_"))


def compile_extension(root: Path, output: Path) -> str:
    """Compile all of `agent/native` into `output`; returns the compiler's warnings.

    The same sources and compiler give the same bytes in every directory. Raises
    `CannotCompileError`.
    """
    if sys.platform != "linux":
        raise CannotCompileError("it is for Linux only")
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise CannotCompileError("this Python has no stable ABI (CPython with the GIL has)")
    compiler = words("CC") or ["cc"]
    if shutil.which(compiler[0]) is None:
        raise CannotCompileError(
            f"there is no C compiler {compiler[0]!r} (Debian: apt-get install gcc libc6-dev; "
            "CC names another one)"
        )
    include = {sysconfig.get_path(each) for each in ("include", "platinclude")}
    if not any(Path(each, "Python.h").is_file() for each in include):
        raise CannotCompileError(
            f"there is no Python.h in {' or '.join(sorted(include))} "
            "(Debian: apt-get install python3-dev)"
        )
    # Relative, as is all that the compiler may write into its output.
    sources = sorted(str(each.relative_to(root)) for each in root.glob("agent/native/*.c"))
    if not sources:
        raise CannotCompileError("there are no sources in agent/native")
    command = [
        *(*compiler, *COMPILE, f"-ffile-prefix-map={root}=."),
        *(word for each in sorted(include) for word in ("-isystem", each)),
        *(*words("CFLAGS"), *LINK),
        *(*words("LDFLAGS"), "-o", str(output), *sources),
    ]
    done = subprocess.run(
        command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise CannotCompileError(
            f"the compiler fails with status {done.returncode}: {shlex.join(command)}\n"
            f"{done.stdout}{done.stderr}".rstrip()
        )
    return (done.stdout + done.stderr).strip()


def words(name: str) -> list[str]:
    """Those of an environment variable, quoted as in a shell."""
    try:
        return shlex.split(os.environ.get(name, ""))
    except ValueError as error:
        raise CannotCompileError(f"{name} cannot be read: {error}") from error
