# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module options computed from the declarations of the SDK, and declarations from module options.

The dataclasses contain type, default and choices of each option, and nothing else repeats them.
"""

from __future__ import annotations

import types
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Params = dict[str, Any]
Spec = TypeVar("Spec")

NAMES = {str: "str", int: "int", float: "float", bool: "bool"}


def options(kind: type[Any], *omitted: str, **changes: Params) -> Params:
    """Return the module options for the fields of a dataclass.

    :param omitted: fields that are not options.
    :param changes: facts of single options that replace the computed ones; ``None`` deletes one.
    """
    names = [field.name for field in fields(kind) if field.name not in omitted]
    return {name: _changed(option(kind, name), changes.get(name, {})) for name in names}


def option(kind: type[Any], name: str) -> Params:
    """Return the module option for one field of a dataclass."""
    field = kind.__dataclass_fields__[name]
    facts = _type(_required(get_type_hints(kind)[name]))
    if "choices" in field.metadata:
        facts["choices"] = list(field.metadata["choices"])
    factory = field.default_factory
    default = factory() if factory is not MISSING else field.default
    if default is MISSING:
        facts["required"] = True
    elif is_dataclass(default):
        facts["apply_defaults"] = True
    elif default is not None:
        facts["default"] = list(default) if isinstance(default, tuple) else default
    elif facts == {"type": "dict"}:
        facts["default"] = {}
    return facts


def specification(kind: type[Spec], params: Params, **values: Any) -> Spec:
    """Return a dataclass whose fields have the values of the options with the same names. An option
    that is not set leaves the field's default.

    :param values: the values of fields that are not computed from options.
    """
    hints = get_type_hints(kind)
    computed = {
        field.name: _value(hints[field.name], params[field.name])
        for field in fields(kind)  # type: ignore[arg-type]  # it is a dataclass
        if field.name in params
        and field.name not in values
        and not _is_unset(field, params[field.name])
    }
    return kind(**computed, **values)


def _type(hint: Any) -> Params:
    """Return the type of an option as Ansible names it."""
    origin = get_origin(hint) or hint
    if is_dataclass(hint):
        return {"type": "dict", "options": options(hint)}  # type: ignore[arg-type]  # a class
    if origin is tuple:
        item = _type(get_args(hint)[0])
        nested = {"options": item["options"]} if "options" in item else {}
        return {"type": "list", "elements": item["type"], **nested}
    return {"type": "dict" if origin is dict else NAMES[hint]}


def _value(hint: Any, value: Any) -> Any:
    """Return the value of an option as its field holds it."""
    hint = _required(hint)
    if is_dataclass(hint) and isinstance(value, dict):
        return specification(hint, value)  # type: ignore[arg-type]  # a class
    if isinstance(value, list):
        return tuple(_value(get_args(hint)[0], item) for item in value)
    return value


def _required(hint: Any) -> Any:
    """Return a type without ``None``."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(member for member in get_args(hint) if member is not type(None))
    return hint


def _is_unset(field: Field[Any], value: Any) -> bool:
    """Return whether an option leaves the default of its field."""
    if field.default is None:
        return value is None or value == {}
    return value is None and (field.default is not MISSING or field.default_factory is not MISSING)


def _changed(facts: Params, changes: Params) -> Params:
    return {key: value for key, value in {**facts, **changes}.items() if value is not None}
