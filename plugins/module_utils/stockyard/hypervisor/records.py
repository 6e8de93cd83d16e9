# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records as text: the form in which a hypervisor stores hosts, templates, volumes, pools and
branches.

The text carries the number of its schema. A record of an earlier schema is converted when it is
read, and stored in the present schema when it changes next. A record of a later schema is never
guessed: it is an unreadable object until this controller gets that version of stockyard.

To change or add a field, increase ``SCHEMA`` and add the conversion to ``CONVERSIONS``. An added
field with a default needs no function there. A record with a field that its schema does not have is
unreadable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar, cast

from ..errors import InvalidInput
from ..model import codec, naming, untrusted
from ..model.branch import BranchRecord
from ..model.host import HostRecord
from ..model.observation import Record
from ..model.pool import PoolRecord
from ..model.template import TemplateRecord
from ..model.volume import VolumeRecord

StoredRecord: TypeAlias = "HostRecord | TemplateRecord | VolumeRecord | PoolRecord | BranchRecord"
S = TypeVar("S", bound="StoredRecord")
Fields: TypeAlias = dict[str, Any]

# The schema that this version writes. Records without a number have schema 1.
SCHEMA = 5
SCHEMA_MAX = 1 << 31


def encode(record: StoredRecord) -> str:
    """Return a record as one line of JSON."""
    return codec.dumps({"kind": record.kind, "schema": SCHEMA, **codec.to_dict(record)})


def decode(text: str | bytes) -> Record:
    """Return a host or a template from a line of JSON.

    :raises InvalidInput: if the text is not a complete record of one of them.
    """
    return cast("Record", _decode(text, (HostRecord, TemplateRecord)))


def decode_volume(text: str | bytes) -> VolumeRecord:
    """Return a volume from a line of JSON.

    :raises InvalidInput: if the text is not a complete record of a volume.
    """
    return _decode(text, (VolumeRecord,))


def decode_pool(text: str | bytes) -> PoolRecord:
    """Return a pool from a line of JSON.

    :raises InvalidInput: if the text is not a complete record of a pool.
    """
    return _decode(text, (PoolRecord,))


def decode_branch(text: str | bytes) -> BranchRecord:
    """Return a branch from a line of JSON.

    :raises InvalidInput: if the text is not a complete record of a branch.
    """
    return _decode(text, (BranchRecord,))


def _decode(text: str | bytes, types: tuple[type[S], ...]) -> S:
    try:
        data = untrusted.parse(text)
    except untrusted.MalformedData as error:
        raise InvalidInput("the record is not JSON.", cause=str(error)) from error
    if not isinstance(data, dict):
        raise InvalidInput("the record is not an object.")
    schema = naming.whole("schema", data.pop("schema", 1), 1, SCHEMA_MAX)
    if schema > SCHEMA:
        raise InvalidInput(
            f"the record has schema {schema}, and this version of stockyard reads schemas up to "
            f"{SCHEMA}: it was made by a newer stockyard.",
            remedy="update stockyard on this controller",
        )
    # The first schema left the kind out of the records of pools.
    kind = data.pop("kind", PoolRecord.kind if schema == 1 and types == (PoolRecord,) else None)
    record_type = next((candidate for candidate in types if candidate.kind == kind), None)
    if record_type is None:
        raise InvalidInput(f"a record of kind {kind!a} is not known.")
    for number in range(schema, SCHEMA):
        convert = CONVERSIONS[number].get(record_type.kind)
        data = convert(data) if convert else data
    return codec.from_dict(record_type, data, f"{record_type.kind} record")


def _renamed(data: Fields, names: Mapping[str, str]) -> Fields:
    """Return fields under their new names.

    :raises InvalidInput: if a field has its new name already: its schema did not have that name.
    """
    for new_name in names.values():
        if new_name in data:
            raise InvalidInput(f"unknown field {new_name!a} in a record of an earlier schema.")
    return {names.get(name, name): value for name, value in data.items()}


def _host_2(data: Fields) -> Fields:
    return _renamed(data, {"frozen": "template_size", "most": "max_size", "resizes": "resize_mode"})


def _volume_2(data: Fields) -> Fields:
    return _renamed(data, {"holder": "attachment", "encryption": "encryption_id"})


# The conversions of each schema to the next one, by the kind of the record. Kinds that did not
# change need none.
CONVERSIONS: dict[int, dict[str, Callable[[Fields], Fields]]] = {
    1: {"host": _host_2, "volume": _volume_2},
    # Schema 3 added the branch of a host, its unfinished resume, its endpoint, and branches.
    2: {},
    # Schema 4 added the largest size of a host's fleet.
    3: {},
    # Schema 5 added the declared numbers of a host's fleet.
    4: {},
}
