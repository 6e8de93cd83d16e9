# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pytest plugin: the fixtures ``stockyard_host`` and ``stockyard_docker``.

The wheel names this module as a plugin. pytest is imported by pytest, so no other program needs it.
"""

from __future__ import annotations

import getpass
import secrets
import socket
from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ..errors import StockyardError
from .host import HostOptions, StockyardDocker, StockyardHost, host_for

if TYPE_CHECKING:
    import pytest

    from ..yard import Yard

SCOPES = ("test", "session")
HELP = {
    "fleet": "the fleet to lease hosts from",
    "branch": "the running host to branch hosts from, instead of a fleet",
    "tenant": "the tenant of the fleet or host",
    "duration": "time after which a host of a killed run is deleted: 30m",
    "wait": "longest time to wait for a host: 10m",
    "hypervisor": "URI of the hypervisor",
    "owner": "owner of the yard",
    "pki_dir": "directory of keys and certificates",
    "service": "address of a lease service, instead of the hypervisor",
    "token_file": "file with the token for the lease service",
}
# Characters of a test's name in the holder of its lease.
NAME_LENGTH = 40
# The same with a lease service, which writes the name of the project before the holder.
SERVED_NAME_LENGTH = 27


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, each also in the configuration file."""
    group = parser.getgroup("stockyard")
    for name, text in {**HELP, "scope": "a host for each test, or for the session"}.items():
        option = f"--stockyard-{name.replace('_', '-')}"
        choices = {"choices": SCOPES} if name == "scope" else {}
        group.addoption(option, dest=f"stockyard_{name}", default=None, help=text, **choices)
        parser.addini(f"stockyard_{name}", text, default="")


def pytest_configure(config: pytest.Config) -> None:
    """Add the fixtures."""
    config.pluginmanager.register(_fixtures(config), "stockyard-fixtures")


def _fixtures(config: pytest.Config) -> object:
    """Return the fixtures as a plugin: their scope depends on the options."""
    import pytest

    scope: Any = "session" if _value(config, "scope") == "session" else "function"

    class Fixtures:
        """The fixtures of this run."""

        @pytest.fixture(scope="session")
        def stockyard_yard(self) -> Iterator[Yard | None]:
            """Open the yard of the options; there is none with a lease service."""
            options = _options(config)
            if options.service:
                yield None
                return
            from ..yard import DEFAULT_OWNER, Yard

            with Yard(
                options.hypervisor,
                owner=options.owner or DEFAULT_OWNER,
                pki_dir=options.pki_dir or None,
            ) as yard:
                yield yard

        @pytest.fixture(scope=scope)
        def stockyard_host(
            self, request: pytest.FixtureRequest, stockyard_yard: Yard | None
        ) -> Iterator[StockyardHost]:
            """Lease or branch a host for the test, or for the session."""
            options = _options(config)
            holder = _holder(request, is_served=bool(options.service))
            with host_for(options, stockyard_yard, holder) as host:
                yield host

        @pytest.fixture(scope=scope)
        def stockyard_docker(self, stockyard_host: StockyardHost) -> StockyardDocker:
            """Return Docker on the host of ``stockyard_host``."""
            return StockyardDocker(stockyard_host)

    return Fixtures()


def _value(config: pytest.Config, name: str) -> str:
    """Return an option: of the command line, else of the configuration file."""
    value = config.getoption(f"stockyard_{name}")
    return str(config.getini(f"stockyard_{name}") if value is None else value)


def _options(config: pytest.Config) -> HostOptions:
    """Return the options of this run.

    :raises pytest.UsageError: if they are not valid.
    """
    import pytest

    values = {field.name: _value(config, field.name) for field in fields(HostOptions)}
    options = HostOptions(**{name: value for name, value in values.items() if value})
    scope = _value(config, "scope")
    if scope not in ("", *SCOPES):
        raise pytest.UsageError(f"stockyard_scope: {scope} is not test or session.")
    try:
        options.check()
    except StockyardError as error:
        raise pytest.UsageError(str(error)) from error
    return options


def _holder(request: pytest.FixtureRequest, *, is_served: bool) -> str:
    """Return the holder of a lease: user, machine and test. Each host has another one.

    :param is_served: whether a lease service leases the host: to it, the project is the user.
    """
    name = "".join(
        char if char.isascii() and char.isprintable() else "?"
        for char in getattr(request.node, "name", "") or "session"
    )
    number = secrets.token_hex(4)
    if is_served:
        return f"{name[:SERVED_NAME_LENGTH]}-{number}"
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "pytest"
    place = f"{user}@{socket.gethostname()}"[:NAME_LENGTH]
    return f"{place} {name[:NAME_LENGTH]}-{number}"
