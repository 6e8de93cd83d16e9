# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documented results of modules, from the dataclasses that describe objects.

A key has the type of the field, and the text of its ``:param`` line. ``hack/samples.yml`` contains
the samples.
"""

from __future__ import annotations

import functools
import importlib
import re
import types
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

Entries = dict[str, dict[str, Any]]


class MissingTextError(Exception):
    """A text that is written by hand is missing."""


SAMPLES = Path(__file__).with_name("samples.yml")
SDK = "plugins.module_utils.stockyard"
# The dataclass of each result that describes objects.
CLASSES = {
    "audit.findings": "hostconfig.audit.Finding",
    "branch.hosts": "model.host_info.HostInfo",
    "client_certificate.certificates": "model.certificate_info.ClientCertificateInfo",
    "endpoint.endpoint": "model.endpoint_info.EndpointInfo",
    "endpoint_info.endpoints": "model.endpoint_info.EndpointInfo",
    "fleet.hosts": "model.host_info.HostInfo",
    "fleet_info.fleets": "model.fleet_info.FleetInfo",
    "host.host": "model.host_info.HostInfo",
    "host_info.hosts": "model.host_info.HostInfo",
    "jenkins_nodes.nodes": "integrations.jenkins.node_info.NodeInfo",
    "jenkins_nodes_info.nodes": "integrations.jenkins.node_info.NodeInfo",
    "jenkins_nodes_info.skipped_objects": "model.yard_info.SkippedObject",
    "lease.lease": "model.lease_info.LeaseInfo",
    "lease_info.leases": "model.lease_info.LeaseInfo",
    "nested.nested": "hostconfig.nested.spec.NestedSpec",
    "pool.pool": "model.pool_info.PoolInfo",
    "pool_info.pools": "model.pool_info.PoolInfo",
    "reap.skipped_objects": "model.yard_info.SkippedObject",
    "template.template": "model.template_info.TemplateInfo",
    "template_transfer.artifact": "model.artifact_info.ArtifactInfo",
    "template_transfer.template": "model.template_info.TemplateInfo",
    "template_info.templates": "model.template_info.TemplateInfo",
    "volume.volume": "model.volume_info.VolumeInfo",
    "volume_info.volumes": "model.volume_info.VolumeInfo",
}
# Results with the keys of another result, which their descriptions name.
SAME_KEYS = {
    "template.templates": "template.template",
    "yard.members": "fleet.hosts",
}
# The dataclass of modules whose results are the facts of one object.
MODULE_CLASSES = {
    "hypervisor_info": "model.yard_info.HypervisorInfo",
    "report": "model.yard_info.ReportInfo",
}
# Fields that are not documented as results: bookkeeping, and what every module returns.
OMITTED = ("absent", "changed")
# Facts that only the module with this option returns.
REQUESTED = {"missing_updates": "check_updates", "secret": "secrets"}
# Results of all modules that change a yard, and the result of every failure.
CHANGES: Entries = {
    "plan": {
        "description": "The actions that were taken, or in check mode the actions that would be "
        "taken. Empty if nothing changes.",
        "returned": "success",
        "type": "list",
        "elements": "str",
    },
    "progress": {
        "description": "The stages that ended, in the order in which they were shown.",
        "returned": "always",
        "type": "list",
        "elements": "str",
    },
}
ERROR: Entries = {
    "error": {
        "description": "The error.",
        "returned": "failure",
        "type": "dict",
        "contains": {
            "kind": {"description": "The class of the error.", "type": "str"},
            "object": {
                "description": "The object of the error. It can be empty.",
                "type": "str",
            },
            "cause": {"description": "The cause. It can be empty.", "type": "str"},
            "remedy": {
                "description": "An instruction that corrects the problem. It can be empty.",
                "type": "str",
            },
        },
    }
}
NAMES = {str: "str", int: "int", float: "float", bool: "bool", dict: "dict"}


def results(module: str, written: Entries, options: set[str]) -> Entries:
    """Return the documented results of a module.

    :param written: the entries as they are written in the module. Their samples stay.
    :param options: the names of the module's options.
    """
    return {
        name: {**entry, **_details(f"{module}.{name}", entry, written.get(name, {}), options)}
        for name, entry in {
            **written,
            **(CHANGES if CHANGES.keys() & written else {}),
            **ERROR,
        }.items()
    }


def _details(
    name: str, entry: dict[str, Any], written: dict[str, Any], options: set[str]
) -> dict[str, Any]:
    """Return the keys of a result, or its sample."""
    if name in CLASSES:
        return {"contains": _facts(CLASSES[name], options)}
    if name.endswith(".error"):
        values = {key: item.get("sample") for key, item in written.get("contains", {}).items()}
        sample = written.get("sample") or values or _samples()["error"]
        keys = entry["contains"].items()
        return {"contains": {key: {**item, "sample": sample[key]} for key, item in keys}}
    return {"sample": written["sample"]} if "sample" in written else {}


def contains(kind: type[Any], samples: dict[str, Any], options: set[str]) -> Entries:
    """Return the keys of an object, with the type and the text of each field."""
    hints = get_type_hints(kind)
    return {
        field.name: _entry(field.name, hints[field.name], _text(kind, field.name), samples, options)
        for field in fields(kind)
        if field.name not in OMITTED and REQUESTED.get(field.name, "") in {"", *options}
    }


def _entry(
    name: str, hint: Any, text: str, samples: dict[str, Any], options: set[str]
) -> dict[str, Any]:
    """Return the entry of one field."""
    hint, sample = _required(hint), samples.get(name)
    text, _only, condition = text.partition(" Only on ")
    entry: dict[str, Any] = {"description": ansible_markup(text)}
    if condition:
        entry["returned"] = f"on {condition.rstrip('.')}"
    if name in REQUESTED:
        entry["returned"] = f"when O({REQUESTED[name]}=true)"
    item = hint
    if get_origin(hint) is tuple:
        item, entry["type"] = get_args(hint)[0], "list"
        sample_of_item = sample[0] if sample else {}
        entry["elements"] = _type_name(item)
    else:
        sample_of_item, entry["type"] = sample or {}, _type_name(item)
    if is_dataclass(item):
        entry["contains"] = contains(item, sample_of_item, options)  # type: ignore[arg-type]
    elif sample is not None:
        entry["sample"] = sample
    return entry


def _type_name(hint: Any) -> str:
    return "dict" if is_dataclass(hint) else NAMES[get_origin(hint) or hint]


def _required(hint: Any) -> Any:
    """Return a type without ``None``."""
    if get_origin(hint) in (Union, types.UnionType):
        return next(member for member in get_args(hint) if member is not type(None))
    return hint


def _text(kind: type[Any], name: str) -> str:
    """Return the text of a field.

    :raises MissingTextError: if the docstring of its dataclass does not describe it.
    """
    text = parameters(kind).get(name)
    if not text:
        raise MissingTextError(f"{kind.__name__}: {name} must have a :param line.")
    return text


def parameters(kind: type[Any]) -> dict[str, str]:
    """Return the texts of the ``:param`` lines of a dataclass, each as one line."""
    text = f"{kind.__doc__}\n"
    pairs = re.findall(r":param (\w+):((?:.*\n)(?:(?! *:param |\s*\n).*\n)*)", text)
    return {name: " ".join(words.split()) for name, words in pairs}


def ansible_markup(text: str) -> str:
    """Return a text of the SDK in the markup of Ansible, as a sentence."""
    text = re.sub(r"; see :\w+:`[^`]*`", "", text)
    text = text.replace(". ``None``", ". Null").replace("``None``", "null")
    text = re.sub(r"``(?:([\w ]+)|([^`]+))``", _macro, text)
    text = f"{text[0].upper()}{text[1:]}"
    return text if text.endswith(".") else f"{text}."


def _macro(literal: re.Match[str]) -> str:
    """Return a literal as a value if it is words, and else as code."""
    return f"V({literal[1]})" if literal[1] else f"C({literal[2]})"


def _facts(name: str, options: set[str]) -> Entries:
    """Return the keys of the objects that a dataclass describes, by its name in the SDK."""
    module, _dot, attribute = name.rpartition(".")
    kind = getattr(importlib.import_module(f"{SDK}.{module}"), attribute)
    return contains(kind, _samples().get(attribute, {}), options)


@functools.cache
def _samples() -> dict[str, dict[str, Any]]:
    return dict(yaml.safe_load(SAMPLES.read_text()))
