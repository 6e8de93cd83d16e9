# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container machines that no endpoint refers to. Pure.

An endpoint refers to its machines as long as its image host exists: without it, it cannot be
served. An image host that is being replaced is missing for a moment, so a machine is marked first
and deleted if a later run still misses the image host.
"""

from __future__ import annotations

from ..model.container_machine import (
    BUILDS,
    CONTAINER_ID,
    ENDPOINT_LABEL,
    FACTS_PREFIX,
    ITS_IMAGE_HOST,
    LONGEST_BUILD,
    NEEDED_AT,
    UNREFERENCED_SINCE,
)
from ..model.host import HostRecord
from ..model.observation import Observation

_CONTAINER, _IMAGE_HOST, _SINCE, _BUILDS, _NEEDED = (
    f"{FACTS_PREFIX}{fact}"
    for fact in (CONTAINER_ID, ITS_IMAGE_HOST, UNREFERENCED_SINCE, BUILDS, NEEDED_AT)
)


def deletion_reason(record: HostRecord, current_time: float, grace: float) -> str:
    """Return the reason to delete a container machine; empty if it stays, or is none."""
    if ENDPOINT_LABEL not in record.labels or record.phase != "ready":
        return ""
    patience = grace + LONGEST_BUILD * (_BUILDS in record.labels)
    needed_at = max(record.created, _time(record.labels.get(_NEEDED, "")))
    if _CONTAINER not in record.labels and current_time - needed_at >= patience:
        return "no container was created in it"
    since = _time(record.labels.get(_SINCE, ""))
    if since and current_time - since >= grace:
        return f"the image host {record.labels.get(_IMAGE_HOST, '')} of its endpoint does not exist"
    return ""


def changed_marks(
    observation: Observation, current_time: float
) -> list[tuple[HostRecord, dict[str, str]]]:
    """Return the container machines whose mark must change, each with its new labels."""
    existing = {(host.record.tenant, host.name) for host in observation.hosts}
    changes = []
    for host in observation.hosts:
        labels = host.record.labels
        image_host = labels.get(_IMAGE_HOST, "")
        if ENDPOINT_LABEL not in labels or not image_host or host.record.phase != "ready":
            continue
        is_referenced = (host.record.tenant, image_host) in existing
        if is_referenced and _SINCE in labels:
            remaining = {key: value for key, value in labels.items() if key != _SINCE}
            changes.append((host.record, remaining))
        elif not is_referenced and not _time(labels.get(_SINCE, "")):
            changes.append((host.record, {**labels, _SINCE: f"{current_time:.0f}"}))
    return changes


def _time(text: str) -> float:
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 15 else 0.0
