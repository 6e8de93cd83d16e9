# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records as text: the form in which a hypervisor stores hosts and templates."""

from __future__ import annotations

import json

from ..errors import InvalidInput
from ..model import codec, untrusted
from ..model.host import HostRecord
from ..model.observation import Record
from ..model.template import TemplateRecord

KINDS: dict[str, type[HostRecord] | type[TemplateRecord]] = {
    "host": HostRecord,
    "template": TemplateRecord,
}


def encode(record: Record) -> str:
    """Return a record as one line of JSON."""
    return json.dumps(
        {"kind": record.kind, **codec.to_dict(record)}, sort_keys=True, separators=(",", ":")
    )


def decode(text: str) -> Record:
    """Return a record from a line of JSON.

    :raises InvalidInput: if the text is not a complete record of a known kind.
    """
    try:
        data = untrusted.parse(text)
    except untrusted.MalformedData as error:
        raise InvalidInput("the record is not JSON.", cause=str(error)) from error
    kind = data.pop("kind", None) if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise InvalidInput(f"a record of kind {kind!a} is not known.")
    return codec.from_dict(KINDS[kind], data, f"{kind} record")
