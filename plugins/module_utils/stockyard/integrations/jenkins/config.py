# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration of a node: the controller's own XML. Declared values are read and set; everything
else stays unchanged.
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
# Seconds for a login, and the number and interval of the controller's retries.
PATIENCE = {"launchTimeoutSeconds": "60", "maxNumRetries": "10", "retryWaitTime": "15"}
_PLAIN = {
    "description": "description",
    "remoteFS": "work_dir",
    "numExecutors": "executors",
    "mode": "mode",
}
_DECLARATION = re.compile(rb"\A\s*<\?xml[^>]*\?>")


def desired_config(spec: AgentSpec, record: HostRecord) -> Config:
    """Return the desired configuration of a host's node."""
    return {
        "description": mark_of(record, spec.place).description,
        "work_dir": spec.work_dir,
        "executors": str(spec.executors),
        "mode": MODES[spec.exclusive],
        "labels": sorted(set(spec.labels)),
        "launcher": _ssh(spec, record) if spec.launcher == "ssh" else {"class": INBOUND},
    }


def _ssh(spec: AgentSpec, record: HostRecord) -> Config:
    """Return the SSH address of a host, and the one host key that the controller accepts."""
    key = record.identity.ssh_host_key if record.identity else ""
    address, port = record.ssh_endpoint
    return {
        "class": SSH,
        "host": address,
        "port": str(port),
        "credentials": spec.credentials_id,
        "key": " ".join(key.split()[:2]),
        "java": spec.java,
    }


def form(name: str, config: Config) -> dict[str, str]:
    """Return the fields of the form that creates a node. The new node is inbound, because every
    controller has that launcher.
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
    """Return the configuration of a node."""
    root = _parsed(xml, node)
    values: Config = {key: root.findtext(tag) or "" for tag, key in _PLAIN.items()}
    return {
        **values,
        "labels": sorted(set((root.findtext("label") or "").split())),
        "launcher": _launcher(root),
    }


def _launcher(root: ElementTree.Element) -> Config:
    launcher = root.find("launcher")
    kind = "" if launcher is None else launcher.get("class", "")
    if launcher is None or kind != SSH:
        return {"class": kind}
    strategy = launcher.find("sshHostKeyVerificationStrategy")
    pinned = strategy is not None and strategy.get("class") == PINNED
    key = [
        launcher.findtext(f"sshHostKeyVerificationStrategy/key/{part}") or ""
        for part in ("algorithm", "key")
    ]
    return {
        "class": SSH,
        "host": launcher.findtext("host") or "",
        "port": launcher.findtext("port") or "",
        "credentials": launcher.findtext("credentialsId") or "",
        "key": " ".join(key) if pinned else "",
        "java": launcher.findtext("javaPath") or "",
    }


def edited(xml: bytes, node: str, config: Config) -> bytes:
    """Return a node's XML with the declared values. Unknown elements stay unchanged."""
    root = _parsed(xml, node)
    for tag, key in _PLAIN.items():
        _set(root, tag, config[key])
    _set(root, "label", " ".join(config["labels"]))
    if _launcher(root) != config["launcher"]:
        for old in root.findall("launcher"):
            root.remove(old)
        root.append(_launcher_element(config["launcher"]))
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _launcher_element(launcher: Config) -> ElementTree.Element:
    element = ElementTree.Element("launcher", {"class": launcher["class"]})
    if launcher["class"] != SSH:
        return element
    tags = {"host": "host", "port": "port", "credentialsId": "credentials", "javaPath": "java"}
    for tag, field in tags.items():
        if launcher[field]:
            _set(element, tag, launcher[field])
    for option, value in PATIENCE.items():
        _set(element, option, value)
    strategy = ElementTree.SubElement(element, "sshHostKeyVerificationStrategy", {"class": PINNED})
    algorithm, _space, text = launcher["key"].partition(" ")
    key = ElementTree.SubElement(strategy, "key")
    _set(key, "algorithm", algorithm)
    _set(key, "key", text)
    return element


def check(node: str, config: Config, current: Config) -> None:
    """Check that a controller accepted a configuration.

    :raises Unsupported: if it did not, for example because the launcher's plugin is missing.
    """
    differing = sorted(key for key in config if config[key] != current[key])
    if not differing:
        return
    plugin = differing == ["launcher"] and config["launcher"]["class"] == SSH
    raise Unsupported(
        f"the controller did not apply {', '.join(differing)}.",
        name=f"node {node}",
        remedy="install the plugin ssh-slaves, or use the launcher inbound"
        if plugin
        else "inspect the node in Jenkins",
    )


def _set(parent: ElementTree.Element, tag: str, text: str) -> None:
    element = parent.find(tag)
    if element is None:
        element = ElementTree.SubElement(parent, tag)
    element.text = text


def _parsed(xml: bytes, node: str) -> ElementTree.Element:
    """Return the XML as elements. Jenkins writes XML 1.1, which expat does not read, but the
    content is always valid XML 1.0.
    """
    try:
        # Jenkins writes no document type. XML without one has no entities, which could do harm.
        if b"<!DOCTYPE" in xml:
            raise ValueError("the document has a document type")
        return ElementTree.fromstring(_DECLARATION.sub(b"", xml))  # noqa: S314
    except (ElementTree.ParseError, ValueError) as error:
        raise ControllerError(
            "the configuration of the node cannot be read.",
            name=f"node {node}",
            cause=str(error),
            remedy="inspect its config.xml",
        ) from error
