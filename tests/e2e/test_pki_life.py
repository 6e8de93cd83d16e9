# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys that are handed over, renewed, revoked and lost, on one host whose machine never changes.

A second controller has the CA as text and a directory of its own: the others' hosts and files are
not touched.
"""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stockyard import Client, HostInfo, SingleSpec, Yard
from tests.helpers.values import present

from .conftest import FLEET, OWNER, WORK, ssh

pytestmark = pytest.mark.real
SPEC = SingleSpec("keys", "docker")
SAME = ("uuid", "address", "mac", "created", "generation")


def second(pki_dir: Path, yard: Yard | None = None) -> Yard:
    """Another controller, with the first one's CA when that is given."""
    authority = yard.context.pki("default").authority(datetime.now(UTC)) if yard else None
    arguments: dict[str, Any] = {}
    if authority:
        arguments = {"ca_certificate": authority.pem(), "ca_private_key": authority.key_pem()}
    return Yard(
        "qemu:///session",
        owner=OWNER,
        storage=str(WORK / "store"),
        pki_dir=str(pki_dir),
        **arguments,
    )


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second controller's directory for keys."""
    return tmp_path_factory.mktemp("second")


@pytest.fixture(scope="module")
def other_yard(yard: Yard, fleet: list[HostInfo], empty: Path) -> Iterator[Yard]:
    """The second controller."""
    with second(empty, yard) as opened:
        yield opened


@pytest.fixture(scope="module")
def host(other_yard: Yard) -> Iterator[HostInfo]:
    """A host of its own, made by the second controller."""
    yield other_yard.hosts.apply(SPEC).objects[0]
    other_yard.hosts.delete(SPEC.name)


def context(folder: Path) -> ssl.SSLContext:
    tls_context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    tls_context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return tls_context


def connect(host: HostInfo, folder: Path) -> http.client.HTTPSConnection:
    return http.client.HTTPSConnection(host.address, 2376, context=context(folder), timeout=20)


def ping(connection: http.client.HTTPSConnection) -> int:
    connection.request("GET", "/_ping")
    answer = connection.getresponse()
    answer.read()
    return answer.status


def answers(host: HostInfo, folder: Path) -> bool:
    connection = connect(host, folder)
    try:
        return ping(connection) == 200
    finally:
        connection.close()


def refused(host: HostInfo, folder: Path) -> bool:
    try:
        answers(host, folder)
    except (ssl.SSLError, ConnectionError, http.client.HTTPException):
        return True
    return False


def served(host: HostInfo, folder: Path) -> str:
    """The serial number of the certificate that the host shows."""
    connection = connect(host, folder)
    connection.connect()
    try:
        certificate: Any = connection.sock.getpeercert()
        return f"{int(certificate['serialNumber'], 16):x}"
    finally:
        connection.close()


def soon(probe: Callable[[], object], expected: object) -> None:
    """The front takes up new files a moment after it was told to."""
    end = time.monotonic() + 10
    while probe() != expected and time.monotonic() < end:
        time.sleep(0.2)
    assert probe() == expected


def own(host: HostInfo) -> Path:
    return Path(host.docker.environment["DOCKER_CERT_PATH"])


def same(before: HostInfo, after: HostInfo) -> None:
    assert [getattr(after, k) for k in SAME] == [getattr(before, k) for k in SAME]
    for fact in ("machine_id", "ssh_host_key"):
        assert getattr(after.identity, fact) == getattr(before.identity, fact)


def test_a_yard_is_converged_from_an_empty_home_with_the_ca_as_text(
    other_yard: Yard, fleet: list[HostInfo], empty: Path
) -> None:
    result = other_yard.fleets.apply(FLEET)
    assert result.plan.actions == ()
    assert [h.drift for h in result.objects] == [()] * len(fleet)
    assert answers(result.objects[0], own(result.objects[0]))
    assert Path(result.objects[0].ssh.known_hosts).read_text().count("\n") >= len(fleet)
    assert not list(empty.rglob("ca-key*"))


def test_certificate_is_renewed_before_its_expiry(other_yard: Yard, host: HostInfo) -> None:
    assert served(host, own(host)) == present(host.identity).certificate
    provider = other_yard.context.provider
    record = next(h.record for h in provider.observe(OWNER).hosts if h.record.name == "keys")
    assert record.identity
    end = (datetime.now(UTC) + timedelta(days=100)).timestamp()
    provider.claim(record, identity=replace(record.identity, not_after=end))
    assert [a.verb for a in other_yard.hosts.apply(SPEC, check=True).plan.actions] == ["renew"]
    live = connect(host, own(host))
    assert ping(live) == 200
    after = other_yard.hosts.apply(SPEC).objects[0]
    same(host, after)
    soon(lambda: served(after, own(after)), present(after.identity).certificate)
    assert present(after.identity).certificate != present(host.identity).certificate
    assert ping(live) == 200, "a renewal hung up on a client"
    live.close()
    assert not other_yard.hosts.apply(SPEC).changed


def test_a_revoked_client_is_refused_and_the_operator_is_not(
    other_yard: Yard, host: HostInfo, tmp_path: Path
) -> None:
    guest = Client("guest", directory=str(tmp_path))
    other_yard.certificates.issue(guest)
    live = connect(host, tmp_path)
    assert ping(live) == 200
    # Only put on record: `revoke` would tell the shared fleet too.
    other_yard.context.pki("default").revoke(
        other_yard.context.pki("default").issued("guest"), datetime.now(UTC)
    )
    assert other_yard.hosts.list(name="keys")[0].drift == (
        "its list of revoked certificates is outdated",
    )
    assert [a.verb for a in other_yard.hosts.apply(SPEC).plan.actions] == ["renew"]
    assert refused(host, tmp_path)
    with pytest.raises((OSError, http.client.HTTPException)):
        ping(live)
    live.close()
    assert answers(host, own(host))
    assert not other_yard.hosts.apply(SPEC).changed


def test_a_lost_ca_is_replaced_where_the_host_is(
    other_yard: Yard, host: HostInfo, tmp_path: Path
) -> None:
    """The same as a rotation: there is no CA in the directory."""
    with second(tmp_path) as heir:
        assert heir.hosts.list(name="keys")[0].drift == (
            "its tenant has no CA on this controller: a new CA will be created",
        )
        assert [a.verb for a in heir.hosts.apply(SPEC, check=True).plan.actions] == ["renew"]
        assert list(tmp_path.iterdir()) == []
        after = heir.hosts.apply(SPEC).objects[0]
        same(host, after)
        assert after.drift == ()
        assert answers(after, own(after))
        assert served(after, own(after)) == present(after.identity).certificate
        assert refused(host, own(host))
        result = ssh(after, "hostname")
        assert (result.stdout, result.returncode) == ("keys\n", 0), result.stderr
        assert not heir.hosts.apply(SPEC).changed
