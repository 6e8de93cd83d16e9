# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials for a hypervisor that requires them, and the authorities that certify it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Login:
    """Credentials for a hypervisor. The provider reads missing values from the environment.

    :param password: never shown, not even by ``repr``.
    :param validate_certs: whether the server's certificate must be valid.
    :param ca_path: file or directory of trusted authorities in addition to the system's, as PEM.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    validate_certs: bool | None = None
    ca_path: str = ""


NOBODY = Login()


@dataclass(frozen=True)
class RegistryLogin:
    """A login at a registry; none if the name is empty.

    :param password: never shown, not even by ``repr``.
    """

    username: str = ""
    password: str = field(default="", repr=False)


ANONYMOUS = RegistryLogin()
