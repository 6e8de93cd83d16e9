# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's configuration: the controller's own XML, of which we read and set what is declared and
keep all else.
"""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree

from ...errors import ControllerError, Unsupported
from ...model.host import HostRecord
from .mark import mark_of
from .spec import AgentSpec

Config = dict[str, Any]

INBOUND = "hudson.slaves.JNLPLauncher"
SSH = "hudson.plugins.sshslaves.SSHLauncher"
PINNED = "hudson.plugins.sshslaves.verifiers.ManuallyProvidedKeyVerificationStrategy"
TYPE = "hudson.slaves.DumbSlave"
MODES = {True: "EXCLUSIVE", False: "NORMAL"}
# Seconds for a login, and how often and after how many seconds the controller tries again.
PATIENCE = {"launchTimeoutSeconds": "60", "maxNumRetries": "10", "retryWaitTime": "15"}
_PLAIN = {
    "description": "description",
    "remoteFS": "work_dir",
    "numExecutors": "executors",
    "mode": "mode",
}
_DECLARATION = re.compile(rb"\A\s*<\?xml[^>]*\?>")


def wanted(spec: AgentSpec, record: HostRecord) -> Config:
    """What the node of a host is to be like."""
    return {
        "description": mark_of(record, spec.place).description,
        "work_dir": spec.work_dir,
        "executors": str(spec.executors),
        "mode": MODES[spec.exclusive],
        "labels": sorted(set(spec.labels)),
        "launcher": _ssh(spec, record) if spec.launcher == "ssh" else {"class": INBOUND},
    }


def _ssh(spec: AgentSpec, record: HostRecord) -> Config:
    """Where the controller logs in, and the one host key that it believes."""
    key = record.identity.ssh_host_key if record.identity else ""
    return {
        "class": SSH,
        "host": record.address,
        "port": str(record.ssh_port),
        "credentials": spec.credentials_id,
        "key": " ".join(key.split()[:2]),
        "java": spec.java,
    }


def form(name: str, config: Config) -> dict[str, str]:
    """The fields of the form that makes a node. It is inbound at first: every controller has that
    launcher.
    """
    bean = {
        "name": name,
        "nodeDescription": config["description"],
        "numExecutors": int(config["executors"]),
        "remoteFS": config["work_dir"],
        "labelString": " ".join(config["labels"]),
        "mode": config["mode"],
        "type": f"{TYPE}$DescriptorImpl",
        "retentionStrategy": {"stapler-class": "hudson.slaves.RetentionStrategy$Always"},
        "nodeProperties": {"stapler-class-bag": "true"},
        "launcher": {"stapler-class": INBOUND},
    }
    return {"name": name, "type": TYPE, "json": json.dumps(bean)}


def read(xml: bytes, node: str) -> Config:
    """What a node is like."""
    root = _parsed(xml, node)
    found: Config = {ours: root.findtext(theirs) or "" for theirs, ours in _PLAIN.items()}
    return {
        **found,
        "labels": sorted(set((root.findtext("label") or "").split())),
        "launcher": _launcher(root),
    }


def _launcher(root: ElementTree.Element) -> Config:
    found = root.find("launcher")
    kind = "" if found is None else found.get("class", "")
    if found is None or kind != SSH:
        return {"class": kind}
    strategy = found.find("sshHostKeyVerificationStrategy")
    pinned = strategy is not None and strategy.get("class") == PINNED
    key = [
        found.findtext(f"sshHostKeyVerificationStrategy/key/{part}") or ""
        for part in ("algorithm", "key")
    ]
    return {
        "class": SSH,
        "host": found.findtext("host") or "",
        "port": found.findtext("port") or "",
        "credentials": found.findtext("credentialsId") or "",
        "key": " ".join(key) if pinned else "",
        "java": found.findtext("javaPath") or "",
    }


def edited(xml: bytes, node: str, config: Config) -> bytes:
    """A node's XML with what is declared in it. All that we do not know stays as it is."""
    root = _parsed(xml, node)
    for theirs, ours in _PLAIN.items():
        _set(root, theirs, config[ours])
    _set(root, "label", " ".join(config["labels"]))
    if _launcher(root) != config["launcher"]:
        for old in root.findall("launcher"):
            root.remove(old)
        root.append(_launcher_element(config["launcher"]))
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _launcher_element(launcher: Config) -> ElementTree.Element:
    made = ElementTree.Element("launcher", {"class": launcher["class"]})
    if launcher["class"] != SSH:
        return made
    known = {"host": "host", "port": "port", "credentialsId": "credentials", "javaPath": "java"}
    for theirs, ours in known.items():
        if launcher[ours]:
            _set(made, theirs, launcher[ours])
    for what, value in PATIENCE.items():
        _set(made, what, value)
    strategy = ElementTree.SubElement(made, "sshHostKeyVerificationStrategy", {"class": PINNED})
    algorithm, _space, text = launcher["key"].partition(" ")
    key = ElementTree.SubElement(strategy, "key")
    _set(key, "algorithm", algorithm)
    _set(key, "key", text)
    return made


def check(node: str, config: Config, now: Config) -> None:
    """See that a controller took what it was told.

    :raises Unsupported: when it did not, as one does that lacks the launcher's plugin.
    """
    lacking = sorted(key for key in config if config[key] != now[key])
    if not lacking:
        return
    plugin = lacking == ["launcher"] and config["launcher"]["class"] == SSH
    raise Unsupported(
        f"the controller did not take its {', '.join(lacking)}.",
        name=f"node {node}",
        remedy="install the plugin ssh-slaves, or use the launcher inbound"
        if plugin
        else "look at the node there",
    )


def _set(parent: ElementTree.Element, tag: str, text: str) -> None:
    found = parent.find(tag)
    if found is None:
        found = ElementTree.SubElement(parent, tag)
    found.text = text


def _parsed(xml: bytes, node: str) -> ElementTree.Element:
    """The XML as elements. Jenkins writes XML 1.1, which expat does not read; what it writes is 1.0
    all the same.
    """
    try:
        # Jenkins writes no document type; without one there are no entities that could do harm.
        if b"<!DOCTYPE" in xml:
            raise ValueError("it has a document type")
        return ElementTree.fromstring(_DECLARATION.sub(b"", xml))  # noqa: S314
    except (ElementTree.ParseError, ValueError) as error:
        raise ControllerError(
            "its configuration cannot be read.",
            name=f"node {node}",
            cause=str(error),
            remedy="look at its config.xml",
        ) from error
