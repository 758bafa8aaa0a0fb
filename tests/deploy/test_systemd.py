"""The unit and its companions, read, and judged by systemd's own tools where they are."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from hf_agent.cli.commands.check_config import check_config
from hf_agent.cli.main import cli
from hf_agent.config import Config, load
from support.readme import ROOT, block
from support.unit_file import UnitFile

SYSTEMD = ROOT / "deploy" / "systemd"
EXPOSURE = 20
"""Highest rating of `systemd-analyze security`, in tenths."""


@pytest.fixture(scope="module")
def unit() -> UnitFile:
    return UnitFile(SYSTEMD / "hf-agent.service")


@pytest.fixture(scope="module")
def config() -> Config:
    return load(ROOT / "config" / "s3.toml", environment={"HF_AGENT_BUCKET": "bucket"})


def analyze(*arguments: str, **paths: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian: systemd)")
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **paths},
    )


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    # Programs that a unit names have to exist: those of another place stand for the installed one.
    program = tmp_path / "hf-agent"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = (SYSTEMD / "hf-agent.service").read_text()
    copy = tmp_path / "hf-agent.service"
    copy.write_text(text.replace("/opt/hf-agent/bin/hf-agent", str(program)))
    done = analyze("verify", "--man=no", str(copy))
    assert (done.returncode, done.stderr) == (0, "")
    # Able to fail: a setting that does not exist is spoken of.
    copy.write_text(copy.read_text().replace("[Service]", "[Service]\nProtectEverything=yes"))
    assert "ProtectEverything" in analyze("verify", "--man=no", str(copy)).stderr


def test_the_unit_is_locked_up_well_by_systemds_own_rating() -> None:
    path = str(SYSTEMD / "hf-agent.service")
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", path)
    assert done.returncode == 0, done.stdout
    rating = re.search(r"exposure level for hf-agent.service: ([0-9.]+)", done.stdout)
    assert rating is not None
    if analyze("--version").stdout.startswith("systemd 252 "):  # later ones weigh differently
        page = (ROOT / "docs" / "systemd.md").read_text()
        assert f"rates it {rating[1]} of 10 (systemd 252" in page


def test_the_agent_tells_systemd_when_it_is_ready_and_that_it_is_alive(unit: UnitFile) -> None:
    assert unit.one("Service", "Type") == "notify"
    assert unit.one("Service", "NotifyAccess") == "main"
    assert unit.seconds("Service", "WatchdogSec") == 60


def test_every_command_of_the_unit_exists_with_its_options(unit: UnitFile) -> None:
    known = {option for each in cli.params for option in each.opts}
    checks = {option for each in check_config.params for option in each.opts}
    (start,) = unit.sections["Service"]["ExecStart"]
    (before,) = unit.sections["Service"]["ExecStartPre"]
    program, *arguments = shlex.split(start)
    assert {each for each in arguments if each.startswith("-")} <= known
    assert shlex.split(before)[:2] == [program, "check-config"]
    assert {each for each in shlex.split(before) if each.startswith("-")} <= checks


def test_a_reload_checks_the_configuration_before_the_agent_is_told(unit: UnitFile) -> None:
    check, tell = unit.sections["Service"]["ExecReload"]
    assert check == unit.one("Service", "ExecStartPre")
    assert tell == "/bin/kill -HUP $MAINPID"


def test_a_stop_may_take_longer_than_the_last_flush(unit: UnitFile, config: Config) -> None:
    stop = unit.seconds("Service", "TimeoutStopSec")
    assert stop >= config.flush.shutdown_timeout + 15
    assert unit.one("Service", "KillMode") == "mixed"


def test_the_agent_is_restarted_for_ever(unit: UnitFile) -> None:
    assert unit.one("Service", "Restart") == "always"
    assert unit.one("Unit", "StartLimitIntervalSec") == "0"


def test_the_start_does_not_wait_for_the_network(unit: UnitFile) -> None:
    named = [
        value
        for name in ("After", "Wants", "Requires")
        for value in unit.sections["Unit"].get(name, [])
    ]
    assert not [value for value in named if "network" in value]


def test_it_has_no_rights_but_to_its_own_directories(unit: UnitFile) -> None:
    service = unit.sections["Service"]
    assert service["User"] == ["hf-agent"]
    assert service["CapabilityBoundingSet"] == [""]
    for name, value in {
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateDevices": "yes",
        "PrivateTmp": "yes",
        "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
        "SystemCallFilter": "@system-service",
        "StateDirectory": "hf-agent",
        "RuntimeDirectory": "hf-agent",
    }.items():
        assert service[name] == [value]
    assert "ReadWritePaths" not in service


def test_users_are_seen_as_who_they_are(unit: UnitFile) -> None:
    # In a user namespace, every client would be `nobody` to allow_uids.
    assert "PrivateUsers" not in unit.sections["Service"]


def test_unit_configuration_users_and_directories_agree(unit: UnitFile, config: Config) -> None:
    service = unit.sections["Service"]
    state, runtime = (unit.one("Service", name) for name in ("StateDirectory", "RuntimeDirectory"))
    assert config.agent.data_dir == f"/var/lib/{state}" == unit.one("Service", "WorkingDirectory")
    assert {str(Path(each.path).parent) for each in config.listen} == {f"/run/{runtime}"}
    rows = [
        line.split()
        for line in (SYSTEMD / "hf-agent.tmpfiles.conf").read_text().splitlines()
        if line.startswith("d")
    ]
    made = {path: (mode, user, group) for _, path, mode, user, group, _ in rows}
    user, group = service["User"][0], service["Group"][0]
    assert made[f"/run/{runtime}"] == (service["RuntimeDirectoryMode"][0], user, group)
    assert made[f"/var/lib/{state}"] == (service["StateDirectoryMode"][0], user, group)
    (kind, name, *_), *more = [
        shlex.split(line)
        for line in (SYSTEMD / "hf-agent.sysusers.conf").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert (kind, name, more) == ("u", user, [])
    # Containers go on with the directory that they mounted.
    assert service["RuntimeDirectoryPreserve"] == ["yes"]


def test_the_install_commands_put_every_file_where_systemd_looks() -> None:
    commands = block("docs/systemd.md", "systemd-install", "sh")
    for path in SYSTEMD.iterdir():
        assert f"deploy/systemd/{path.name} " in commands
