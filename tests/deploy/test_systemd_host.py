"""The page's installation on a host, run by root in a copy of this machine's file system.

Nothing of it leaves the mount namespace: what is written goes to a layer in memory. systemd itself
does not run there; what the unit says is done in its place, as the unit's user and group.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.readme import ROOT, block
from support.unit_file import UnitFile

UNIT = UnitFile(ROOT / "deploy" / "systemd" / "hf-agent.service")

ENTER = """
set -eu
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --rbind /dev "$1/root/dev"
mount -t proc proc "$1/root/proc"
mount -t tmpfs tmpfs "$1/root/run"
exec chroot "$1/root" bash -euo pipefail -c "$2"
"""

HOST = r"""
cd {root}
# The user that is made has to be able to read the interpreter, wherever that is.
for place in {places}; do
  while [ "$place" != / ]; do chmod o+rx "$place"; place=$(dirname "$place"); done
done
ln -s {prefix} /opt/hf-agent

{install}

# What the unit names as its documentation, and the page for a night without a network.
test -r "{documentation}"
test -r /usr/share/doc/hf-agent/docs/runbook.md
stat -c '%n %a %U %G' /etc/hf-agent/agent.toml /etc/hf-agent/environment {directories}
# There is no bucket here: the directory store, and no port that somebody else may have.
sed -i /etc/hf-agent/agent.toml \
  -e 's|^url = .*|url = "file:///var/lib/hf-agent/store"|' -e 's|^listen = .*|listen = ""|'

set -a; . /etc/hf-agent/environment; set +a
as_unit="setpriv --reuid {user} --regid {group} --clear-groups --no-new-privs --bounding-set -all"
cd {directory}
umask {umask}
$as_unit {check}
$as_unit {start} &
agent=$!
while ! [ -S /run/hf-agent/append.sock ]; do
  kill -0 "$agent"
  sleep 0.1
done
append() {{
  setpriv --reuid 4242 --regid 4242 "$@" \
    /opt/hf-agent/bin/hf-agent append --socket /run/hf-agent/append.sock --stream demo
}}
echo from a member | append --groups {group} >/dev/null
if echo from a stranger | append --clear-groups; then echo a stranger was let in; exit 1; fi
if setpriv --reuid 4242 --regid 4242 --groups {group} ls /var/lib/hf-agent/; then exit 1; fi
$as_unit {reload}
kill -HUP "$agent"
/opt/hf-agent/bin/hf-agent flush --socket /run/hf-agent/append.sock demo >/dev/null
kill -TERM "$agent"
wait "$agent"
echo "stopped with $?"
/opt/hf-agent/bin/hf-agent cat "file:///var/lib/hf-agent/store/$(hostname)/demo"
"""


def test_a_host_installed_by_the_page_runs_the_agent_for_members_of_the_group(
    tmp_path: Path,
) -> None:
    for tool in ("systemd-sysusers", "systemd-tmpfiles", "setpriv", "unshare"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if os.getuid() != 0:
        pytest.skip("only root can mount")
    namespace = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--propagation",
        "private",
    ]
    if subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("no mount namespace can be made here")

    def setting(name: str) -> str:
        return UNIT.one("Service", name)

    script = HOST.format(
        root=shlex.quote(str(ROOT)),
        places=shlex.join([sys.prefix, sys.base_prefix, str(ROOT / "agent")]),
        prefix=shlex.quote(sys.prefix),
        install=block("docs/systemd.md", "systemd-install", "sh"),
        documentation=UNIT.one("Unit", "Documentation").removeprefix("file://"),
        directories="/run/hf-agent /var/lib/hf-agent",
        user=setting("User"),
        group=setting("Group"),
        directory=setting("WorkingDirectory"),
        umask=setting("UMask"),
        check=setting("ExecStartPre"),
        start=setting("ExecStart"),
        reload=UNIT.sections["Service"]["ExecReload"][0],
    )
    done = subprocess.run(
        [*namespace, "bash", "-c", ENTER, "enter", str(tmp_path), script],
        capture_output=True,
        text=True,
        timeout=240,
    )
    if "overlay" in done.stderr and "mount" in done.stderr.splitlines()[0]:
        pytest.skip(f"no overlay can be mounted here: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        "/etc/hf-agent/agent.toml 400 hf-agent hf-agent",
        "/etc/hf-agent/environment 600 root root",
        "/run/hf-agent 750 hf-agent hf-agent",
        "/var/lib/hf-agent 700 hf-agent hf-agent",
        "configuration /etc/hf-agent/agent.toml: ok",
        "configuration /etc/hf-agent/agent.toml: ok",
        "stopped with 0",
        "from a member",
    ]
    assert "permission denied; this user may not look into its directory" in done.stderr
    assert "configuration reloaded" in done.stderr
