# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors as users see them: one clear message, structured fields, no traceback and no secret."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from stockyard.clock import SystemClock
from stockyard.pki.authority import Authority

from .conftest import Controller, Played, task

CANARY = "canary-in-a-coal-mine"
GROUP = "group/stockyard.container_hosts.all"


@pytest.fixture(scope="module")
def authority() -> Authority:
    """A user's own CA, made elsewhere."""
    return Authority.create("theirs", datetime.fromtimestamp(SystemClock().now(), UTC))


@pytest.fixture(scope="module")
def played(
    controller: Controller, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Played:
    bare = tmp_path_factory.mktemp("bare") / "cryptography"
    bare.mkdir()
    (bare / "__init__.py").write_text(
        "raise ImportError('No module named cryptography', name='cryptography')\n"
    )
    defaults = {
        GROUP: {
            "ca_certificate": authority.pem(),
            "ca_private_key": authority.key_pem(),
            "owner": "theirs",
        }
    }
    play_options = {"module_defaults": defaults}
    return controller.play(
        [
            task("bad name", "fleet", name="Web_1", template="docker"),
            task("bad port", "fleet", name="web", template="docker", ports=[2376]),
            task("no template", "fleet", name="web", template="nothing"),
            task("no host", "host", name="missing", state="restarted"),
            task("bad uri", "host_info", hypervisor="hyperv:///here"),
            task("bad owner", "host_info", owner="No Body"),
            task("no file", "template", name="docker", progress_file="/nowhere/at/all"),
            task("half a ca", "template", name="docker", ca_certificate=authority.pem()),
            task("template", "template", play_options, name="docker"),
            task("fleet", "fleet", play_options, name="web", template="docker"),
            task(
                "bad ca",
                "host",
                play_options,
                name="one",
                template="docker",
                ca_certificate="x",
                ca_private_key=CANARY,
            ),
            task(
                "bare",
                "host_info",
                {**play_options, "environment": {"PYTHONPATH": str(bare.parent)}},
            ),
            task("single", "host", play_options, name="web-1"),
            task("busy template", "template", play_options, name="docker", state="absent"),
            task("defaults", "host_info", play_options),
            task("other owner", "host_info"),
        ],
        "-vvvv",
    )


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("bad name", "InvalidInput", "'Web_1' is not a valid fleet name."),
        ("bad port", "InvalidInput", "2376 is used by the host itself"),
        (
            "no template",
            "NotFound",
            "template nothing: the template does not exist, or is unusable.",
        ),
        (
            "no host",
            "NotFound",
            "host missing: the host does not exist, so it cannot be restarted.",
        ),
        ("bad uri", "InvalidInput", "'hyperv:///here' is not the URI of a supported hypervisor."),
        ("bad owner", "InvalidInput", "'No Body' is not a valid owner name."),
        ("no file", "InvalidInput", "/nowhere/at/all: the progress file cannot be written."),
        ("bad ca", "InvalidInput", "the CA cannot be read."),
        ("bare", "MissingDependency", "cryptography is not installed."),
        ("single", "OperationRefused", "host web-1: the host belongs to fleet web."),
        ("busy template", "OperationRefused", "hosts of the template exist: "),
    ],
)
def test_error_has_a_message_and_structured_fields(
    played: Played, name: str, kind: str, text: str
) -> None:
    result = played[name]
    assert result["failed"] is True
    assert text in result["msg"]
    assert set(result["error"]) == {"kind", "object", "cause", "remedy"}
    assert result["error"]["kind"] == kind
    assert result["error"]["remedy"] in result["msg"]
    assert not result.get("exception", "").startswith("Traceback")


def test_missing_library_has_the_remedy_of_ansible(played: Played) -> None:
    assert (
        "set ansible_python_interpreter to a Python that has it"
        in played["bare"]["error"]["remedy"]
    )


def test_missing_library_is_reported_as_by_ansible(played: Played) -> None:
    assert "Failed to import the required Python library (cryptography)" in played["bare"]["msg"]


def test_half_a_ca_is_refused(played: Played) -> None:
    assert "required together: ca_certificate, ca_private_key" in played["half a ca"]["msg"]


def test_no_private_key_is_ever_shown(played: Played, authority: Authority) -> None:
    assert CANARY not in played.output
    for line in authority.key_pem().splitlines()[1:-1]:
        assert line not in played.output


def test_a_private_key_that_was_handed_in_is_not_written_to_disk(
    played: Played, controller: Controller, authority: Authority
) -> None:
    assert played["fleet"]["changed"] is True
    secret = authority.key_pem().splitlines()[1]
    files = [
        path
        for path in controller.root.rglob("*")
        if path.is_file() and not path.is_relative_to(_collection())
    ]
    assert any(path.name == "ca.pem" for path in files)
    assert [
        path
        for path in files
        if path.name != "playbook.yml" and secret in path.read_text(errors="replace")
    ] == []


def test_defaults_of_the_action_group_reach_every_module(played: Played) -> None:
    assert [h["owner"] for h in played["defaults"]["hosts"]] == ["theirs"]
    assert played["other owner"]["hosts"] == []


def _collection() -> Path:
    return Path(__file__).parents[2]
