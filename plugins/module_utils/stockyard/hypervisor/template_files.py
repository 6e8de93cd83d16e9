# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port for the files of frozen templates, which leave a hypervisor or come from another one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..clock import Deadline
from ..errors import Unsupported
from ..model.template import TemplateRecord


@dataclass(frozen=True)
class TemplateContent:
    """The content of a frozen template.

    :param machine: the properties of its machine that a fork needs, as plain JSON types.
    :param files: its files, by their names in an artifact. They do not change.
    """

    machine: dict[str, Any]
    files: Mapping[str, Path]


class NewTemplate(Protocol):
    """The files of a template that is being received."""

    paths: Mapping[str, Path | None]

    def finish(self, deadline: Deadline) -> TemplateRecord:
        """Record the template, when all files are written. It can be forked from then on.

        :raises Conflict: if a template of this name and generation exists.
        :raises ImageError: if a file is not what the record says.
        """


class TemplateFiles(Protocol):
    """The files of the frozen templates of one hypervisor.

    :param kind: the kind of the hypervisor: a template is received only from one of the same kind.
    """

    kind: str

    def check_export(self, record: TemplateRecord) -> None:
        """Refuse a template that cannot leave the hypervisor. Changes nothing.

        :raises Unsupported: with the reason.
        """

    def opened(self, record: TemplateRecord) -> AbstractContextManager[TemplateContent]:
        """Return the content of a frozen template for the length of a ``with`` block.

        :raises ImageError: if the template is damaged.
        """

    def check(
        self,
        record: TemplateRecord,
        machine: dict[str, Any],
        sizes: Mapping[str, int],
        mode: str = "instant",
    ) -> None:
        """Refuse a template that the hypervisor cannot fork. Changes nothing.

        :param record: the record that the template would get.
        :param sizes: the size of each file in bytes.
        :param mode: the mode of its forks: ``linked`` accepts memory that cannot be resumed.
        :raises Unsupported: if the platform is another one than that of the freeze.
        :raises ImageError: if files are missing, or have impossible sizes.
        :raises OutOfSpace: if the storage lacks the space.
        """

    def receive(
        self, record: TemplateRecord, machine: dict[str, Any], deadline: Deadline
    ) -> AbstractContextManager[NewTemplate]:
        """Return the paths for the files of a template for the length of a ``with`` block. Unless
        :meth:`NewTemplate.finish` was called, nothing remains afterwards.
        """


class NoTemplateFiles:
    """A hypervisor whose templates cannot leave it."""

    kind = "none"

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def check_export(self, record: TemplateRecord) -> None:
        raise self._refusal(record)

    def opened(self, record: TemplateRecord) -> AbstractContextManager[TemplateContent]:
        raise self._refusal(record)

    def check(
        self,
        record: TemplateRecord,
        machine: dict[str, Any],
        sizes: Mapping[str, int],
        mode: str = "instant",
    ) -> None:
        raise self._refusal(record)

    def receive(
        self, record: TemplateRecord, machine: dict[str, Any], deadline: Deadline
    ) -> AbstractContextManager[NewTemplate]:
        raise self._refusal(record)

    def _refusal(self, record: TemplateRecord) -> Unsupported:
        return Unsupported(
            "templates of this hypervisor cannot be transferred.",
            name=record.title,
            cause=self._reason,
            remedy="build the template on each hypervisor",
        )
