# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cloud image that a template begins with: its checksum, if none is declared."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from ...errors import InvalidInput
from ...model.cloud_image import CloudImage
from ...model.template import TemplateSpec


def resolved(spec: TemplateSpec) -> TemplateSpec:
    """Return the declaration with the checksum of its cloud image.

    A declared checksum is used as it is, and compared with the image before the image is used: no
    run reads gigabytes needlessly.

    :raises InvalidInput: if the file cannot be read.
    """
    declared_image = spec.image.cloud_image
    if declared_image is None or spec.build.cloud_image is not None:
        return spec
    cloud_image = (
        declared_image
        if declared_image.checksum
        else replace(declared_image, checksum=_checksum(declared_image))
    )
    return replace(
        spec,
        image=replace(spec.image, cloud_image=cloud_image),
        build=replace(spec.build, cloud_image=cloud_image),
    )


def _checksum(image: CloudImage) -> str:
    try:
        with open(image.location, "rb") as handle:
            return f"sha256:{hashlib.file_digest(handle, 'sha256').hexdigest()}"
    except OSError as error:
        raise InvalidInput(
            "the cloud image cannot be read.",
            name=image.title,
            cause=str(error),
            remedy="name a path on the machine that opens the hypervisor",
        ) from error
