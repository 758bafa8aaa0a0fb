"""Applications mount the sockets' directory read-only: what they can do with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.agent_process import AgentProcess
from support.containers import read_container

POD = """
set -eu
mount --bind "$1" "$2"
mount -o remount,bind,ro "$2"
touch "$2/file" 2>/dev/null && { echo the mount can be written to; exit 1; }
while read -r record; do
  echo "$record" | "$3" -m hf_agent append --socket "$2/append.sock" --stream demo >/dev/null
  echo taken
done
"""


async def test_a_read_only_mount_of_the_directory_takes_appends_also_after_the_agent_restarts(
    tmp_path: Path,
) -> None:
    namespace = ["unshare", "--mount", "--propagation=private"]
    if (
        shutil.which("unshare") is None
        or os.getuid()
        or subprocess.run([*namespace, "true"]).returncode
    ):
        pytest.skip("no mount namespace can be made here (root, and unshare from util-linux)")
    agent = AgentProcess(tmp_path / "a").start()
    mount = tmp_path / "mount"
    mount.mkdir()
    pod = subprocess.Popen(
        [*namespace, "bash", "-c", POD, "pod", str(agent.folder), str(mount), sys.executable],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert pod.stdin is not None
    assert pod.stdout is not None
    try:
        for record in (b"before\n", b"after\n"):
            pod.stdin.write(record)
            pod.stdin.flush()
            assert pod.stdout.readline() == b"taken\n"
            # The socket is a new file now, in the directory that is mounted.
            agent.kill()
            agent.start()
        pod.stdin.close()
        assert pod.wait(60) == 0
        assert agent.stop() == 0
    finally:
        pod.kill()
        pod.wait()
        pod.stdout.close()
        agent.close()
    assert await read_container(agent, "node-1/demo") == b"before\nafter\n"
