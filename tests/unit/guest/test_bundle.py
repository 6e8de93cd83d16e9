# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive that makes a machine of vCenter's one that can be forked."""

from __future__ import annotations

import io
import tarfile

import pytest

from stockyard.guest.bundle import main


def members(*arguments: str) -> dict[str, tarfile.TarInfo]:
    """Return the members of the archive."""
    written = io.BytesIO()
    main(list(arguments), written)
    written.seek(0)
    with tarfile.open(fileobj=written) as archive:
        return {member.name: member for member in archive.getmembers()}


def test_bundle_contains_the_agent_and_its_units() -> None:
    names = members("--user", "core")
    for path in (
        "usr/lib/stockyard/stockyard_agent/guestinfo.py",
        "usr/lib/stockyard/stockyard_agent/main.py",
        "etc/systemd/system/stockyard-agent.service",
        "etc/systemd/system/multi-user.target.wants/stockyard-tls.service",
        "etc/systemd/system/multi-user.target.wants/stockyard-tls-spare.service",
        "etc/sudoers.d/stockyard",
    ):
        assert path in names
    assert names["etc/sudoers.d/stockyard"].mode == 0o440
    assert {member.uid for member in names.values()} == {0}


def test_network_names_and_consoles_stay_the_machine_s() -> None:
    names = members()
    for path in ("etc/resolv.conf", "etc/hostname", "etc/systemd/system/getty@tty1.service"):
        assert path not in names


def test_docker_waits_for_the_identity_when_asked() -> None:
    gate = "etc/systemd/system/docker.service.d/stockyard.conf"
    assert gate in members("--docker", "stopped")
    assert gate not in members()


def test_bundle_contains_a_requested_security_profile() -> None:
    plugin = "etc/systemd/system/multi-user.target.wants/stockyard-authz.service"
    assert plugin in members("--security", "hostile")
    assert plugin not in members()


def test_a_user_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        members("--user", "a b")
    assert "not a valid user name" in capsys.readouterr().err
