# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cloud image that a template begins with, found out: what is in the file now, where that was
not declared.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from ...errors import InvalidInput
from ...model.cloud_image import CloudImage
from ...model.template import TemplateSpec


def resolved(spec: TemplateSpec) -> TemplateSpec:
    """The declaration with the checksum of its cloud image.

    A declared one is believed here, and held against the image before that is used: no run reads
    gigabytes for nothing.

    :raises InvalidInput: when the file cannot be read.
    """
    given = spec.image.cloud_image
    if given is None or spec.build.cloud_image is not None:
        return spec
    found = given if given.checksum else replace(given, checksum=_checksum(given))
    return replace(
        spec,
        image=replace(spec.image, cloud_image=found),
        build=replace(spec.build, cloud_image=found),
    )


def _checksum(image: CloudImage) -> str:
    try:
        with open(image.location, "rb") as handle:
            return f"sha256:{hashlib.file_digest(handle, 'sha256').hexdigest()}"
    except OSError as error:
        raise InvalidInput(
            "it cannot be read.",
            name=image.title,
            cause=str(error),
            remedy="name a path on the machine that opens the hypervisor",
        ) from error
