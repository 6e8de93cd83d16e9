# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What SDK users and modules see of an object: public facts, and nothing secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import codec


@dataclass(frozen=True, kw_only=True)
class Info:
    """The public facts of an object, as they were when it was read.

    :param absent: the names of the facts that the hypervisor does not report, or that were not
        requested; their values are ``None``.
    """

    absent: frozenset[str] = frozenset()

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as modules return them: plain JSON types, without absent facts."""
        return {
            name: value
            for name, value in codec.to_dict(self).items()
            if name != "absent" and name not in self.absent
        }
