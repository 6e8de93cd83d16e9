# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who opens a hypervisor that asks, and whom that one is believed to be."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Login:
    """What is not given is looked for in the environment by the provider that needs it.

    :param password: never shown, not even by ``repr``.
    :param validate_certs: whether the server has to prove who it is.
    :param ca_path: file or directory of authorities that are believed beside the system's, as PEM.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    validate_certs: bool | None = None
    ca_path: str = ""


NOBODY = Login()
