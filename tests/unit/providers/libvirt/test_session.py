# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which daemon of a user serves a storage directory, whatever the environment of a run says."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from stockyard.errors import ConnectionFailed, OperationRefused
from stockyard.providers.libvirt import connection, consistency, processes, session
from stockyard.providers.libvirt.domains import Domains
from stockyard.providers.libvirt.session import Session
from stockyard.providers.libvirt.store import Store

from .test_power import RECORD, XML

OWN = RECORD.uuid


class Handle:
    """A connection to a daemon that a test can end.

    :ivar open: whether its socket is open.
    :ivar answers: whether requests succeed.
    """

    def __init__(self, runtime: str) -> None:
        self.uri = f"connection to {runtime}"
        self.open = self.answers = True

    def getLibVersion(self) -> int:  # noqa: N802
        if not (self.open and self.answers):
            raise libvirt.libvirtError("Cannot write data: Broken pipe")
        return 9000000

    def isAlive(self) -> bool:  # noqa: N802
        return self.open

    def getURI(self) -> str:  # noqa: N802
        return self.uri

    def close(self) -> None:
        self.open = False


class Daemons:
    """The daemons of a user: which directories one listens in."""

    def __init__(self) -> None:
        self.reachable: set[str] = set()
        self.opened: list[Session] = []
        self.handles: list[Handle] = []

    def open(self, session: Session) -> Handle:
        self.opened.append(session)
        if session.runtime not in self.reachable:
            raise session.unreachable("no such directory")
        self.handles.append(Handle(session.runtime))
        return self.handles[-1]


@pytest.fixture
def daemons(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Daemons:
    """A machine on which no daemon listens and no QEMU runs."""
    fake_daemons = Daemons()
    monkeypatch.setattr(connection, "_open", fake_daemons.open)
    monkeypatch.setattr(processes, "running", dict)
    monkeypatch.setattr(processes, "ENDING", 0.1)
    for name in ("XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return fake_daemons


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A storage with the files of one machine."""
    opened_store = Store(tmp_path / "store")
    opened_store.prepare()
    (opened_store.hosts / OWN).mkdir()
    return opened_store


@pytest.fixture
def domains() -> Iterator[Domains]:
    """A libvirt that knows the machine and does not run it."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    opened = libvirt.open("test:///default")
    opened.defineXML(XML)
    yield Domains(opened)
    opened.close()


def test_session_of_the_environment_is_the_one_that_libvirt_chooses(
    daemons: Daemons, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert Session.of_environment() == Session(f"{tmp_path}/.cache", f"{tmp_path}/.config")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert Session.of_environment() == Session("/cache", f"{tmp_path}/.config")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/config")
    assert Session.of_environment() == Session("/run/user/7", "/config")


@pytest.mark.parametrize(
    ("installed", "user", "expected", "unexpected"),
    [
        (False, 1000, "install libvirt-daemon", "root"),
        (False, 0, "install libvirt-daemon", "as root"),
        (True, 0, "run as an ordinary user, or use qemu:///system", "install"),
        (True, 1000, "this user can write to /run/user/7", "install"),
    ],
)
def test_remedy_of_an_unreachable_daemon_fits_the_machine(
    monkeypatch: pytest.MonkeyPatch, installed: bool, user: int, expected: str, unexpected: str
) -> None:
    monkeypatch.setattr(
        "shutil.which", lambda program, path: f"/usr/sbin/{program}" if installed else None
    )
    monkeypatch.setattr("os.geteuid", lambda: user)
    error = Session("/run/user/7", "/config").unreachable("no socket")
    assert expected in error.remedy
    assert unexpected not in error.remedy


def test_session_record_is_private_and_overrides_the_environment(
    daemons: Daemons, store: Store, domains: Domains, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/a")
    daemons.reachable |= {"/run/a", "/run/b"}
    _opened, first = connection.open_session(store)
    session.record(store, first, domains)
    path = store.root / session.RECORD
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for elsewhere in ("/run/b", ""):
        monkeypatch.setenv("XDG_RUNTIME_DIR", elsewhere)
        monkeypatch.setenv("XDG_CONFIG_HOME", "/elsewhere")
        opened, chosen = connection.open_session(store)
        assert (opened.getURI(), chosen) == ("connection to /run/a", first)


def test_connection_is_opened_again_after_a_restart_of_the_daemon(
    daemons: Daemons, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays at the session of its storage."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/a")
    daemons.reachable |= {"/run/a", "/run/b"}
    opened, chosen = connection.open_session(store)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/b")
    daemons.handles[0].open = False
    assert opened.getURI() == "connection to /run/a"
    assert opened.getURI() == "connection to /run/a"
    assert daemons.opened == [chosen, chosen]


def test_connection_whose_daemon_does_not_come_back_says_so_and_recovers_later(
    daemons: Daemons, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/a")
    daemons.reachable.add("/run/a")
    opened, _chosen = connection.open_session(store)
    daemons.handles[0].open = False
    daemons.reachable.clear()
    with pytest.raises(ConnectionFailed, match="/run/a"):
        opened.getURI()
    daemons.reachable.add("/run/a")
    assert opened.getURI() == "connection to /run/a"


def test_connection_with_a_failed_request_stays_open(daemons: Daemons, store: Store) -> None:
    daemons.reachable.add(Session.of_environment().runtime)
    opened, _chosen = connection.open_session(store)
    daemons.handles[0].answers = False
    opened.getURI()
    assert len(daemons.handles) == 1


def test_closed_connection_is_closed(daemons: Daemons, store: Store) -> None:
    daemons.reachable.add(Session.of_environment().runtime)
    opened, _chosen = connection.open_session(store)
    opened.close()
    assert not daemons.handles[0].open
    assert len(daemons.handles) == 1


def test_reading_a_yard_records_no_session(daemons: Daemons, store: Store) -> None:
    daemons.reachable.add(Session.of_environment().runtime)
    connection.open_session(store)
    assert session.recorded(store) is None


def test_session_record_without_daemon_is_replaced_if_no_machine_runs(
    daemons: Daemons,
    store: Store,
    domains: Domains,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after a reboot; the definitions stay where they were."""
    session.record(store, Session("/run/gone", str(tmp_path)), domains)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/new")
    daemons.reachable.add("/run/new")
    opened, chosen = connection.open_session(store)
    assert (opened.getURI(), chosen) == (
        "connection to /run/new",
        Session("/run/new", str(tmp_path)),
    )
    session.record(store, chosen, domains)
    assert json.loads((store.root / session.RECORD).read_text())["runtime"] == "/run/new"


def test_session_record_without_daemon_is_kept_while_a_machine_runs(
    daemons: Daemons, store: Store, domains: Domains, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.record(store, Session("/run/gone", "/config"), domains)
    daemons.reachable.add(Session.of_environment().runtime)
    monkeypatch.setattr(processes, "running", lambda: {OWN: 4711, "another": 5})
    with pytest.raises(
        ConnectionFailed, match=r"/run/gone.*QEMU process 4711.*loginctl enable-linger"
    ):
        connection.open_session(store)


def test_session_is_not_recorded_while_another_one_runs_the_machines(
    daemons: Daemons, store: Store, domains: Domains, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "running", lambda: {OWN: 4711})
    with pytest.raises(OperationRefused, match=r"QEMU process 4711 runs the host.*XDG_RUNTIME_DIR"):
        session.record(store, Session.of_environment(), domains)
    assert session.recorded(store) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"runtime": "/run"}'])
def test_damaged_record_is_refused(daemons: Daemons, store: Store, text: str) -> None:
    (store.root / session.RECORD).write_text(text)
    with pytest.raises(OperationRefused, match="record of libvirt's session cannot be read"):
        connection.open_session(store)


def test_host_that_a_process_runs_is_not_observed_as_off(
    daemons: Daemons, store: Store, domains: Domains, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = domains.read_all()[0]
    consistency.check(store, domains, known, RECORD.owner)
    monkeypatch.setattr(processes, "running", lambda: {OWN: 4711})
    with pytest.raises(OperationRefused, match="host racer: QEMU process 4711 runs the host"):
        consistency.check(store, domains, known, RECORD.owner)
    # A daemon that read other definitions knows nothing of the machine at all.
    with pytest.raises(OperationRefused, match=f"machine {OWN}: QEMU process 4711 runs the host"):
        consistency.check(store, domains, (), RECORD.owner)
    # Another owner's hosts are theirs to look after.
    consistency.check(store, domains, known, "another")


def test_host_that_was_started_in_between_is_observed(
    daemons: Daemons, store: Store, domains: Domains, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = domains.read_all()[0]
    domains.connection.lookupByUUIDString(OWN).create()
    monkeypatch.setattr(processes, "running", lambda: {OWN: 4711})
    consistency.check(store, domains, known, RECORD.owner)


def test_host_whose_files_are_in_another_storage_is_refused(
    daemons: Daemons,
    store: Store,
    domains: Domains,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = tmp_path / "other" / "hosts" / OWN / "disk.qcow2"
    disk.parent.mkdir(parents=True)
    disk.touch()
    (store.hosts / OWN).rmdir()
    with_disk = f"<domain><devices><disk><source file='{disk}'/></disk></devices></domain>"

    class MachineIndex:
        def XMLDesc(self, _flags: int) -> str:  # noqa: N802  # libvirt's name
            return with_disk

    monkeypatch.setattr(domains, "find_existing", lambda _record: MachineIndex())
    known: list[Any] = [(RECORD, "off")]
    with pytest.raises(OperationRefused, match=f"another storage, {tmp_path}/other"):
        consistency.check(store, domains, known, RECORD.owner)
    disk.unlink()
    consistency.check(store, domains, known, RECORD.owner)
