"""Where credentials come from, and how a store that runs gets over their end, without a restart."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import botocore.auth
import pytest

from hf_agent.store.base import StoreRefused, StoreRetry
from support.http_stub import Answer, Recorded, StubServer, stub_server
from support.key_gate import KeyGate, error_answer
from support.s3_stores import credentials, made_stores, make  # noqa: F401 - fixtures

ROLE = "arn:aws:iam::123456789012:role/writer"
SOON = 300
"""Seconds: botocore renews what ends so soon before the next request."""


@pytest.fixture
async def s3() -> AsyncIterator[StubServer]:
    async with stub_server() as server:
        yield server


@pytest.fixture
async def issuer() -> AsyncIterator[StubServer]:
    """Whoever gives out credentials: a metadata service, or the security token service."""
    async with stub_server() as server:
        yield server


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)


def ends_in(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_keys(path: Path, key: str) -> None:
    path.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n")


# -- rotation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"])
@pytest.mark.usefixtures("no_keys")
async def test_keys_that_were_exchanged_in_the_file_are_taken_at_once(
    s3: StubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    write_keys(file, "OLD")
    s3.respond = gate = KeyGate({"OLD"}, 400 if code == "ExpiredToken" else 403, code)
    store = make(s3.url)
    await store.create("key", b"x")
    write_keys(file, "NEW")
    await store.create("key", b"x")  # the old ones are good still, and nobody looks at the file
    gate.allowed = {"NEW"}
    await store.create("key", b"x")
    await store.create("key", b"x")
    assert gate.used == ["OLD", "OLD", "OLD", "NEW", "NEW"]
    assert gate.requests[3].body == b"x"


@pytest.mark.usefixtures("no_keys")
async def test_keys_that_are_exchanged_after_a_refusal_are_taken_at_the_next_try(
    s3: StubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    write_keys(file, "OLD")
    s3.respond = gate = KeyGate({"NEW"})
    store = make(s3.url)
    for _ in range(2):
        with pytest.raises(StoreRefused, match="correct the credentials"):
            await store.create("key", b"x")
    assert gate.used == ["OLD", "OLD"]  # once each: looking again has found no others
    write_keys(file, "NEW")
    await store.create("key", b"x")
    file.write_text("")
    gate.allowed = {"NEWER"}
    with pytest.raises(StoreRetry, match="no usable credentials"):
        await store.create("key", b"x")
    write_keys(file, "NEWER")
    await store.create("key", b"x")


async def test_a_large_body_is_whole_when_it_is_sent_with_other_keys(
    s3: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.respond = gate = KeyGate({"testing"})
    store = make(s3.url)
    await store.create("key", b"x")
    gate.allowed = {"NEW"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NEW")
    body = [bytes(200_000), b"end"]
    await store.create("key", body)
    assert gate.used == ["testing", "testing", "NEW"]
    assert gate.requests[-1].body == b"".join(body)


async def test_an_expired_token_is_found_out_by_a_head_too(
    s3: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS answers a HEAD with an expired token by 400, and no word."""
    s3.respond = gate = KeyGate({"testing"}, 400, "ExpiredToken")
    store = make(s3.url)
    await store.head("key")
    gate.allowed = {"NEW"}
    with pytest.raises(StoreRetry, match="the credentials have expired; renew them"):
        await store.head("key")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NEW")
    await store.get("key")
    await store.head("key")
    assert gate.used[-1] == "NEW"


# -- what botocore renews ---------------------------------------------------------------------


@pytest.mark.usefixtures("no_keys")
async def test_container_credentials_are_renewed_before_they_end(
    s3: StubServer, issuer: StubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does pod identity, whose token file is read anew each time."""
    token = tmp_path / "token"
    token.write_text("first")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{issuer.url}/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
    issued: list[str] = []

    def issue(request: Recorded) -> Answer:
        issued.append(request.headers["authorization"])
        given = {
            "AccessKeyId": f"POD{len(issued)}",
            "SecretAccessKey": "secret",
            "Token": "session",
            "Expiration": ends_in(SOON if len(issued) < 2 else 3600),
        }
        return Answer(body=json.dumps(given).encode(), headers={"Content-Type": "application/json"})

    issuer.respond = issue
    s3.respond = gate = KeyGate({"POD1", "POD2"})
    store = make(s3.url)
    token.write_text("second")
    for _ in range(3):
        await store.create("key", b"x")
    assert set(gate.used) <= {"POD1", "POD2"}
    assert gate.used[-1] == "POD2"
    assert issued[-1] == "second"
    assert gate.requests[-1].headers["x-amz-security-token"] == "session"


@pytest.mark.usefixtures("no_keys")
async def test_instance_credentials_that_s3_takes_no_more_are_asked_for_anew(
    s3: StubServer, issuer: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """botocore stretches those that end soon, in case the metadata service is down."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", issuer.url)
    issued = 0

    def issue(request: Recorded) -> Answer:
        nonlocal issued
        if request.method == "PUT":
            return Answer(body=b"token")
        if request.path.endswith("security-credentials/"):
            return Answer(body=b"role")
        issued += 1
        given = {
            "Code": "Success",
            "AccessKeyId": f"VM{issued}",
            "SecretAccessKey": "secret",
            "Token": "session",
            "Expiration": ends_in(SOON if issued < 2 else 3600),
        }
        return Answer(body=json.dumps(given).encode())

    issuer.respond = issue
    s3.respond = gate = KeyGate({"VM1"}, 400, "ExpiredToken")
    store = make(s3.url)
    await store.create("key", b"x")
    gate.allowed = {"VM2"}
    await store.create("key", b"x")
    assert gate.used == ["VM1", "VM1", "VM2"]


def sts_error(status: int, code: str) -> Answer:
    body = (
        f"<ErrorResponse><Error><Code>{code}</Code><Message>No.</Message></Error></ErrorResponse>"
    )
    return Answer(status, body.encode())


def sts_answer(operation: str, key: str, seconds: float) -> Answer:
    given = (
        f"<Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
        f"<SessionToken>t</SessionToken><Expiration>{ends_in(seconds)}</Expiration></Credentials>"
    )
    user = f"<AssumedRoleUser><AssumedRoleId>A:b</AssumedRoleId><Arn>{ROLE}</Arn></AssumedRoleUser>"
    inner = f"<{operation}Result>{given}{user}</{operation}Result>"
    return Answer(body=f"<{operation}Response>{inner}</{operation}Response>".encode())


@pytest.mark.usefixtures("no_keys")
async def test_a_web_identity_is_exchanged_again_with_the_token_of_that_moment(
    s3: StubServer, issuer: StubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", issuer.url)
    asked: list[str] = []

    def issue(request: Recorded) -> Answer:
        asked.append(parse_qs(request.body.decode())["WebIdentityToken"][0])
        return sts_answer("AssumeRoleWithWebIdentity", f"WEB{len(asked)}", SOON)

    issuer.respond = issue
    s3.respond = gate = KeyGate({f"WEB{number}" for number in range(9)})
    store = make(s3.url)
    await store.create("key", b"x")
    token.write_text("second")
    await store.create("key", b"x")
    assert (asked[0], asked[-1]) == ("first", "second")
    assert gate.used[-1] == f"WEB{len(asked)}"
    issuer.respond = lambda request: sts_error(400, "InvalidIdentityToken")
    with pytest.raises(StoreRetry, match="AWS_WEB_IDENTITY_TOKEN_FILE is not valid"):
        await store.create("key", b"x")


@pytest.mark.usefixtures("no_keys")
async def test_a_role_is_assumed_with_its_external_id_and_again_before_that_ends(
    s3: StubServer, issuer: StubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", issuer.url)
    write_keys(file, "SOURCE")
    issuer.respond = sts = Sts({"SOURCE"})
    s3.respond = gate = KeyGate({f"ROLE{number}" for number in range(9)})
    store = make(s3.url, role_arn=ROLE, external_id="shared word")
    await store.create("key", b"x")
    await store.create("key", b"x")
    assert gate.used[-1] == f"ROLE{len(sts.asked)}"
    assert len(sts.asked) >= 2
    assert {name: sts.asked[-1][name] for name in ("RoleArn", "ExternalId", "RoleSessionName")} == {
        "RoleArn": [ROLE],
        "ExternalId": ["shared word"],
        "RoleSessionName": ["hf-agent"],
    }
    # The keys with which it is assumed may be exchanged, too.
    sts.gate.allowed = {"OTHER"}
    with pytest.raises(StoreRefused, match="correct the credentials"):
        await store.create("key", b"x")
    write_keys(file, "OTHER")
    await store.create("key", b"x")
    assert sts.gate.used[-1] == "OTHER"


async def test_a_role_that_may_not_be_assumed_is_for_the_operator(
    s3: StubServer, issuer: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", issuer.url)
    issuer.respond = lambda request: sts_error(403, "AccessDenied")
    with pytest.raises(StoreRefused, match=r"trust policy of store\.s3\.role_arn"):
        await make(s3.url, role_arn=ROLE).create("key", b"x")
    issuer.respond = lambda request: sts_error(500, "InternalFailure")
    with pytest.raises(StoreRetry):
        await make(s3.url, role_arn=ROLE).create("key", b"x")
    assert s3.requests == []


class Sts:
    """A security token service that knows some keys, and whose credentials end soon."""

    def __init__(self, allowed: set[str]) -> None:
        self.gate = KeyGate(allowed)
        self.asked: list[dict[str, list[str]]] = []

    def __call__(self, request: Recorded) -> Answer:
        if self.gate(request).status != 200:
            return sts_error(403, "InvalidClientTokenId")
        self.asked.append(parse_qs(request.body.decode()))
        return sts_answer("AssumeRole", f"ROLE{len(self.asked)}", SOON)


@pytest.mark.usefixtures("no_keys")
async def test_a_program_that_gives_credentials_is_run_again_before_they_end(
    s3: StubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"Version": 1, "SecretAccessKey": "s", "SessionToken": "t", "Expiration": ends_in(SOON)}
    answer = tmp_path / "answer"
    config = tmp_path / "config"
    program = f"{sys.executable} -c \"print(open('{answer}').read())\""
    config.write_text(f"[profile mine]\ncredential_process = {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    s3.respond = gate = KeyGate({"P1", "P2"})
    store = make(s3.url, profile="mine")
    answer.write_text("not what was agreed")
    with pytest.raises(StoreRetry, match=r"no usable credentials: .*JSONDecodeError"):
        await store.create("key", b"x")
    answer.write_text(json.dumps(given | {"AccessKeyId": "P1"}))
    await store.create("key", b"x")
    answer.write_text(json.dumps(given | {"AccessKeyId": "P2"}))
    await store.create("key", b"x")
    assert (gate.used[0], gate.used[-1]) == ("P1", "P2")


@pytest.mark.usefixtures("no_keys")
async def test_what_is_over_when_it_is_given_is_tried_again(
    s3: StubServer, issuer: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As seen by a machine whose clock is fast."""
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{issuer.url}/credentials")
    seconds = -60.0

    def issue(request: Recorded) -> Answer:
        given = {"AccessKeyId": "K", "SecretAccessKey": "s", "Token": "t"}
        given["Expiration"] = ends_in(seconds)
        return Answer(body=json.dumps(given).encode())

    issuer.respond = issue
    s3.respond = KeyGate({"K"})
    store = make(s3.url)
    for _ in range(2):
        with pytest.raises(StoreRetry, match="over already by this machine's clock"):
            await store.create("key", b"x")
    seconds = 3600.0
    await store.create("key", b"x")


# -- a clock that is wrong --------------------------------------------------------------------


async def test_a_clock_that_was_wrong_does_no_harm_once_it_is_right(
    s3: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = botocore.auth.get_current_datetime
    wrong = timedelta(hours=-2)

    def respond(request: Recorded) -> Answer:
        signed = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%S%z")
        if abs((datetime.now(UTC) - signed).total_seconds()) > 900:
            return error_answer(403, "RequestTimeTooSkewed", head=request.method == "HEAD")
        return KeyGate({"testing"})(request)

    s3.respond = respond
    store = make(s3.url)
    monkeypatch.setattr(
        botocore.auth, "get_current_datetime", lambda *a, **k: real(*a, **k) + wrong
    )
    for operation in (store.create("key", b"x"), store.get("key"), store.head("key")):
        with pytest.raises(StoreRetry, match="set the clock of this machine"):
            await operation
    wrong = timedelta()
    await store.create("key", b"x")
    await store.head("key")
