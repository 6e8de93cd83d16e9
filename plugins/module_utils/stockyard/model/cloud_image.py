# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cloud image that a template is built from, as declared. Reads nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import InvalidInput
from . import naming
from .repository import web_address

# Hexadecimal digits of each kind of checksum that publishers of cloud images use.
DIGITS = {"sha256": 64, "sha512": 128}
_USERINFO = re.compile(r"//[^/]*@")


@dataclass(frozen=True)
class CloudImage:
    """A disk in the format qcow2 that contains cloud-init.

    :param location: an absolute path on the machine of the SDK, or an ``https://`` URL.
    :param checksum: ``sha256:`` or ``sha512:`` and the digits; the only part that counts for the
        template's digest. Optional for a file: the SDK computes it from the content.
    """

    location: str
    checksum: str = ""

    def __post_init__(self) -> None:
        naming.line("cloud_image: location", self.location, 4096)
        if self.remote:
            web_address("cloud_image: location", self.location)
        elif not self.location.startswith("/"):
            raise InvalidInput(
                f"cloud_image: location {naming.shown(self.location)} is neither an absolute path "
                f"nor a URL.",
                remedy="write /directory/image.qcow2 or https://…",
            )
        if self.remote and not self.checksum:
            raise InvalidInput(
                "cloud_image: a checksum is missing, and the content of a URL can change.",
                name=self.title,
                remedy="declare the published checksum, as sha512:… or sha256:…",
            )
        if self.checksum:
            self._check()

    def _check(self) -> None:
        naming.line("cloud_image: checksum", self.checksum)
        if not re.fullmatch(r"[0-9a-f]+", self.digits) or DIGITS.get(self.algorithm) != len(
            self.digits
        ):
            raise InvalidInput(
                f"cloud_image: {naming.shown(self.checksum)} is not a checksum.",
                name=self.title,
                remedy="write sha256: and 64, or sha512: and 128 lower-case hexadecimal digits",
            )

    @property
    def remote(self) -> bool:
        """Return whether the image must be downloaded."""
        return self.location.startswith("https://")

    @property
    def algorithm(self) -> str:
        """Return the algorithm of the checksum."""
        return self.checksum.partition(":")[0]

    @property
    def digits(self) -> str:
        """Return the checksum without its algorithm."""
        return self.checksum.partition(":")[2]

    @property
    def title(self) -> str:
        """Return its name in messages, without a password."""
        return f"cloud image {_USERINFO.sub('//', self.location)}"
