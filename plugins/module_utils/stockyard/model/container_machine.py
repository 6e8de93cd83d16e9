# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The labels by which an endpoint knows its machines."""

from __future__ import annotations

# The label that makes a host or a volume one of an endpoint; its value is the name of the endpoint.
ENDPOINT_LABEL = "stockyard.endpoint"
# The labels that hold the other facts of a machine begin with this.
FACTS_PREFIX = "stockyard.endpoint/"
# The facts of a machine: the name and the id of its first container.
CONTAINER_NAME, CONTAINER_ID = "container", "container-id"
# The image host of its endpoint, and the time since which that is missing.
ITS_IMAGE_HOST, UNREFERENCED_SINCE = "image-host", "unreferenced-since"
# The fact of a machine that a build runs in, and the longest time of a build in seconds.
BUILDS, LONGEST_BUILD = "builds", 43200.0
# The last time at which the endpoint noted that it needs a machine without a container.
NEEDED_AT = "needed-at"
