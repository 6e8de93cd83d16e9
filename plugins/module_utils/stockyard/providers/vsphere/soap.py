# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connections of pyvmomi: kept open, with a deadline and a size limit for each request."""

from __future__ import annotations

import ssl
from typing import Any

from ...clock import Deadline
from ...web import Bounds, Connection

# Seconds that vCenter may take for one answer, and seconds without any byte of it.
ANSWER, SILENCE = 600.0, 120.0
LONGEST = 1 << 28
VERSIONS = "/sdk/vimServiceVersions.xml"


def ask_versions(host: str, port: int, context: ssl.SSLContext, seconds: float) -> None:
    """Request the API versions of a vCenter, within limits that pyvmomi's own request lacks.

    :raises OSError: if the vCenter cannot be reached in time.
    :raises http.client.HTTPException: if the server does not speak HTTP.
    """
    bounds = Bounds(Deadline(seconds), LONGEST)
    Connection(host, port, bounds=bounds, context=context).exchange("GET", VERSIONS)


class SoapConnection(Connection):
    """One connection of pyvmomi's pool."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, **_options: Any) -> None:
        super().__init__(host, port, bounds=_bounds(), context=context)

    def putrequest(self, *arguments: Any, **options: Any) -> None:
        """Begin a request and its deadline."""
        self.bounds = _bounds()
        super().putrequest(*arguments, **options)


def _bounds() -> Bounds:
    return Bounds(Deadline(ANSWER), LONGEST, SILENCE)
