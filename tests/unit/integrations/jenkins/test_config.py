# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest

from stockyard.errors import ControllerError, Unsupported
from stockyard.integrations.jenkins import AgentSpec, config
from stockyard.model.host import Identity
from tests.helpers.samples import HOST_KEY, host_record

SPEC = AgentSpec("ci", credentials_id="key", labels=("docker", "amd64"), java="/usr/bin/java")
RECORD = host_record(identity=Identity("m" * 32, HOST_KEY, "1f", 2e9))
# As Jenkins writes it, down to the version of XML, with what the product knows nothing of.
XML = b"""<?xml version='1.1' encoding='UTF-8'?>
<slave plugin="other@1">
  <name>ci-1</name>
  <description>x</description>
  <remoteFS>/tmp</remoteFS>
  <numExecutors>4</numExecutors>
  <mode>NORMAL</mode>
  <retentionStrategy class="hudson.slaves.RetentionStrategy$Always"/>
  <launcher class="hudson.slaves.JNLPLauncher"><webSocket>true</webSocket></launcher>
  <label>a  b</label>
  <nodeProperties><hudson.slaves.EnvironmentVariablesNodeProperty/></nodeProperties>
  <temporaryOfflineCause class="hudson.slaves.OfflineCause$UserCause">
    <message>mine</message>
  </temporaryOfflineCause>
</slave>"""


def test_edited_node_has_the_desired_settings_and_keeps_others() -> None:
    desired = config.desired_config(SPEC, RECORD)
    after = config.edited(XML, "ci-1", desired)
    assert config.read(after, "ci-1") == desired
    assert config.edited(after, "ci-1", desired) == after
    for setting in (
        b"RetentionStrategy$Always",
        b"EnvironmentVariablesNodeProperty",
        b"<message>mine</message>",
    ):
        assert setting in after


def test_the_host_key_is_pinned() -> None:
    after = config.edited(XML, "ci-1", config.desired_config(SPEC, RECORD)).decode()
    assert f'<sshHostKeyVerificationStrategy class="{config.PINNED}">' in after
    assert f"<algorithm>ssh-ed25519</algorithm><key>{HOST_KEY.split()[1]}</key>" in after
    loose = after.replace(
        config.PINNED, "hudson.plugins.sshslaves.verifiers.NonVerifyingKeyVerificationStrategy"
    )
    assert config.read(loose.encode(), "ci-1")["launcher"]["key"] == ""


def test_inbound_launcher_is_unchanged() -> None:
    desired = config.desired_config(AgentSpec("ci", launcher="inbound"), RECORD)
    assert b"<webSocket>true</webSocket>" in config.edited(XML, "ci-1", desired)


def test_form_contains_the_desired_settings() -> None:
    form = config.form("ci-1", config.desired_config(SPEC, RECORD))
    bean = json.loads(form["json"])
    assert (form["type"], bean["labelString"], bean["mode"]) == (
        "hudson.slaves.DumbSlave",
        "amd64 docker",
        "EXCLUSIVE",
    )
    assert bean["launcher"] == {"stapler-class": "hudson.slaves.JNLPLauncher"}


@pytest.mark.parametrize(
    "xml",
    [
        b"",
        b"<slave>",
        b"no",
        b'<!DOCTYPE a [<!ENTITY b "c">]><slave>&b;</slave>',
        b"<slave>&#x1;</slave>",
    ],
)
def test_unreadable_configuration_is_an_error(xml: bytes) -> None:
    with pytest.raises(ControllerError, match="node ci-1"):
        config.read(xml, "ci-1")


def test_a_controller_without_the_plugin_is_found_out() -> None:
    desired = config.desired_config(SPEC, RECORD)
    with pytest.raises(Unsupported, match="ssh-slaves"):
        config.check("ci-1", desired, {**desired, "launcher": {"class": ""}})
    with pytest.raises(Unsupported, match="labels, mode"):
        config.check("ci-1", desired, {**desired, "labels": [], "mode": ""})
    config.check("ci-1", desired, desired)
