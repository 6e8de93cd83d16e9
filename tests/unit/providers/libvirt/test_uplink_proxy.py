# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""HAProxy of an uplink with ``egress: allow``, without the uplink."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest

from stockyard.errors import StockyardError
from stockyard.providers.libvirt import uplink_tools
from tests.helpers import uplink_lab
from tests.helpers.uplink_allow_attacks import FINE

Facts = dict[str, Any]


def provided() -> bool:
    """Return whether this machine has HAProxy, and namespaces for this user."""
    try:
        uplink_tools.haproxy()
        namespaces = [*uplink_tools.unshare(), "true"]
    except StockyardError:
        return False
    return bool(shutil.which("ip")) and not subprocess.run(namespaces, check=False).returncode


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """Facts about the answers of HAProxy."""
    if not provided():
        pytest.skip("HAProxy or user namespaces are missing: run `make setup`")
    answers: Facts = uplink_lab.run(tmp_path_factory.mktemp("proxy"), module="uplink_proxy_lab")
    return answers


def test_connection_is_upgraded_to_websocket_only(facts: Facts) -> None:
    upgraded = facts["upgraded"]
    assert upgraded.pop("websocket") == ["websocket"]
    # HAProxy of Debian 13 removes the names of HTTP/2 from a list, and keeps the others.
    assert [name for name, protocols in upgraded.items() if set(protocols) - {"websocket"}] == []
    assert upgraded["h2c"] == []


def test_http_2_is_refused(facts: Facts) -> None:
    assert facts["http2"].startswith("HTTP/1.1 400 ")


def test_header_with_more_than_a_name_and_a_port_is_refused(facts: Facts) -> None:
    assert facts["hosts"] == [FINE, FINE.upper(), f"{FINE}:80"]


def test_start_is_no_refused_attempt(facts: Facts) -> None:
    assert facts["refused over TLS"] == [], "no client used TLS without an allowed name"


def test_allowed_name_without_an_address_is_not_recorded_as_refused(facts: Facts) -> None:
    assert facts["refused without an address"] == []
