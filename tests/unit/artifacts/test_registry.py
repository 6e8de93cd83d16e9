# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Artifacts in a registry: requests, logins, faults and limits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from stockyard import HypervisorError, ImageError, InvalidInput, RegistryLogin
from stockyard.artifacts import registry as client
from stockyard.artifacts.documents import blob_of
from stockyard.artifacts.registry import RegistryArtifact, require_tag
from stockyard.clock import Deadline
from stockyard.model.artifact import Blob, Reference, reference
from tests.helpers.oci_registry import OciRegistry, serving

DATA = b"content" * 100
BLOB = blob_of(DATA)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OciRegistry]:
    """A registry; failed requests are repeated at once."""
    monkeypatch.setattr(client, "PAUSE", 0.0)
    with serving(OciRegistry()) as opened:
        yield opened


def artifact(
    server: OciRegistry, name: str = "team/docker:1", login: RegistryLogin | None = None
) -> RegistryArtifact:
    place = reference(f"{server.address}/{name}")
    return RegistryArtifact(place, login or RegistryLogin(), Deadline(60))


def test_content_is_stored_and_read(server: OciRegistry) -> None:
    subject = artifact(server)
    assert subject.manifest() is None
    assert not subject.has(BLOB)
    subject.write(BLOB, DATA)
    assert subject.has(BLOB)
    assert subject.read(BLOB) == DATA
    subject.finish(b"{}")
    assert subject.manifest() == b"{}"
    digest = f"sha256:{hashlib.sha256(b'{}').hexdigest()}"
    assert artifact(server, f"team/docker@{digest}").manifest() == b"{}"


def test_broken_connections_and_overload_are_overcome(server: OciRegistry) -> None:
    server.breaks = {("POST", 1), ("PUT", 1), ("HEAD", 1), ("GET", 1), ("GET", 2)}
    subject = artifact(server)
    assert not subject.has(BLOB)
    subject.write(BLOB, DATA)
    assert subject.read(BLOB) == DATA


@pytest.mark.parametrize(("status", "attempts"), [(503, 4), (429, 4), (400, 1), (403, 1)])
def test_refusal_ends_the_transfer(server: OciRegistry, status: int, attempts: int) -> None:
    server.refused = ("PUT", 1, status)
    with pytest.raises(HypervisorError, match=str(status)) as refused:
        artifact(server).write(BLOB, DATA)
    assert server.requests["PUT"] == attempts
    assert refused.value.remedy


@pytest.mark.parametrize("stored", [DATA[:-1], b"C" + DATA[1:], DATA + b"x"])
def test_content_that_was_changed_is_refused(server: OciRegistry, stored: bytes) -> None:
    server.blobs["team/docker", BLOB.digest] = stored
    with pytest.raises(ImageError, match=r"changed or truncated|more than the declared"):
        artifact(server).read(BLOB)


def test_content_larger_than_declared_is_not_read(server: OciRegistry) -> None:
    server.blobs["team/docker", BLOB.digest] = bytes(50 << 20)
    with pytest.raises(ImageError, match="more than the declared"):
        artifact(server).read(BLOB)
    server.manifests["team/docker", "1"] = bytes(5 << 20)
    with pytest.raises(ImageError, match="more than the declared"):
        artifact(server).manifest()


def test_absent_part_is_reported(server: OciRegistry) -> None:
    with pytest.raises(ImageError, match="does not have a part"):
        artifact(server).read(BLOB)


def test_content_of_another_repository_is_adopted_without_sending_it(server: OciRegistry) -> None:
    artifact(server, "team/docker:1").write(BLOB, DATA)
    subject = artifact(server, "team/jdk:1")
    puts = server.requests["PUT"]
    assert subject.adopt(BLOB, "team/docker")
    assert subject.has(BLOB)
    assert not subject.adopt(Blob(f"sha256:{'0' * 64}", 3), "team/docker")
    assert server.requests["PUT"] == puts


def test_login_is_sent_for_a_token_and_is_not_shown(server: OciRegistry) -> None:
    server.login = ("ana", "pass word")
    login = RegistryLogin("ana", "pass word")
    assert "pass word" not in repr(login)
    subject = artifact(server, login=login)
    subject.write(BLOB, DATA)
    assert subject.read(BLOB) == DATA
    for wrong in (RegistryLogin("ana", "wrong"), RegistryLogin()):
        with pytest.raises(HypervisorError, match="401") as refused:
            artifact(server, login=wrong).read(BLOB)
        assert "wrong" not in str(refused.value)
        assert "password" in refused.value.remedy


def test_password_is_not_sent_to_the_server_that_a_request_is_redirected_to(
    server: OciRegistry,
) -> None:
    server.login = ("ana", "pass word")
    with serving(OciRegistry()) as target:
        server.token_address = target.address
        with pytest.raises(HypervisorError, match="did not do what was requested"):
            artifact(server, login=RegistryLogin("ana", "pass word")).read(BLOB)
    assert target.requests["GET"] > 0
    assert target.authorizations == {""}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "docker",
        "registry.example.com/",
        "registry.example.com/UPPER",
        "registry.example.com/a/../b",
        "ftp://registry.example.com/a",
        "registry.example.com/a:tag:tag",
        "registry.example.com/a@sha256:12",
        "registry.example.com/a b",
        "user:password@registry.example.com/a",
        f"registry.example.com/{'a' * 1100}",
    ],
)
def test_text_that_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="reference"):
        reference(text)


def test_reference_without_a_tag_gets_the_generation() -> None:
    place = reference("registry.example.com:5000/team/docker")
    assert place == Reference("https://registry.example.com:5000", "team/docker")
    assert (
        str(require_tag(place, "ab" * 32)) == "registry.example.com:5000/team/docker:abababababab"
    )
    digest = reference(f"http://registry.example.com/docker@sha256:{'0' * 64}")
    assert str(digest) == f"http://registry.example.com/docker@sha256:{'0' * 64}"
    with pytest.raises(InvalidInput, match="names a digest"):
        require_tag(digest, "ab" * 32)
