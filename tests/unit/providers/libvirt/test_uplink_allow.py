# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Uplinks with ``egress: allow``: attacks by packets and by names, questions of DNS, and the record
of refused attempts.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from stockyard import RefusedDestination
from stockyard.providers.libvirt import uplink, uplink_names, uplink_proxy
from tests.helpers import uplink_allow_attacks, uplink_allow_lab, uplink_lab

from .test_uplink import provided

Facts = dict[str, Any]
SBIN = "/usr/sbin:/usr/bin:/sbin"
needs_haproxy = pytest.mark.skipif(
    not (provided() and shutil.which("haproxy", path=SBIN)),
    reason="HAProxy, or another requirement of uplinks, is missing: run `make setup`",
)
REFUSED, NOT_REACHED = [uplink_names.REFUSED, [], 0], "No route to host"


def lab(folder: Path, entry: str) -> Facts:
    """Run a function of the laboratory."""
    facts: Facts = uplink_lab.run(folder, entry, "uplink_allow_lab")
    return facts


@pytest.fixture(scope="module")
def packets(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """The attacks by packets that got out."""
    return lab(tmp_path_factory.mktemp("packets"), "packets")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """The connections that reached a machine, and the record of refused ones."""
    return lab(tmp_path_factory.mktemp("names"), "names")


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """The answers of the name server, and the ports that they open."""
    return lab(tmp_path_factory.mktemp("questions"), "questions")


@needs_haproxy
@pytest.mark.parametrize("attack", [attack.name for attack in uplink_allow_attacks.PACKETS])
def test_packet_is_refused_and_leaves_without_the_rules(packets: Facts, attack: str) -> None:
    assert attack not in packets["uplink"]
    assert attack in packets["careless"], "the attack proves nothing"


@needs_haproxy
@pytest.mark.parametrize("attack", [attack.name for attack in uplink_allow_attacks.NAMES])
def test_connection_is_refused_and_arrives_without_the_checks(names: Facts, attack: str) -> None:
    assert attack not in names["uplink"]
    assert attack in names["weakened"] + names["careless"], "the attack proves nothing"


@needs_haproxy
def test_declared_destinations_are_reached(names: Facts) -> None:
    assert names["uplink"] == [entry.name for entry in uplink_allow_attacks.PERMITTED]


@needs_haproxy
def test_refused_attempts_are_recorded_with_their_number(names: Facts) -> None:
    recorded = {
        (entry["destination"], entry["protocol"], entry["port"]): entry["count"]
        for entry in names["refused"]
    }
    assert recorded["evil.example.com", "tls", 443] == 2
    assert recorded["evil.example.com", "http", 80] >= 2
    assert recorded["secure.example.org", "http", 80] == 1
    assert recorded["private.wild.example.org", "dns", 0] >= 1
    assert recorded[uplink_names.NAMELESS, "tls", 443] >= 1
    assert not any(key[0] == "good.example.org" and key[1] == "http" for key in recorded)


@needs_haproxy
def test_refused_packets_are_recorded(packets: Facts) -> None:
    recorded = {
        (entry["destination"], entry["protocol"], entry["port"]): entry["count"]
        for entry in packets["refused"]
    }
    assert recorded[uplink_allow_attacks.LISTED, "tcp", 7778] == 2, "each packet was sent twice"
    assert recorded[uplink_allow_attacks.METADATA, "udp", 80] == 2


@needs_haproxy
@pytest.mark.parametrize("way", ["udp", "tcp"])
def test_questions_about_other_names_are_refused(questions: Facts, way: str) -> None:
    assert questions[f"{way} allowed"] == [0, [uplink_allow_attacks.GOOD], 2]
    assert questions[f"{way} refused"] == REFUSED
    assert questions[f"{way} direct"] in ("timed out", f"[Errno 113] {NOT_REACHED}")


@needs_haproxy
@pytest.mark.parametrize("name", ["sub.good", "wild", "evilwild"])
def test_similar_name_is_refused(questions: Facts, name: str) -> None:
    assert questions[name] == REFUSED


@needs_haproxy
@pytest.mark.parametrize("name", ["loopback.wild", "private.wild", "metadata.wild"])
def test_allowed_name_has_no_denied_address(questions: Facts, name: str) -> None:
    assert questions[name] == [0, [], 0]


@needs_haproxy
def test_answers_contain_addresses_only(questions: Facts) -> None:
    assert questions["inner"] == [0, [uplink_allow_attacks.INNER], 2], "it is declared"
    assert questions["alias"] == [0, [uplink_allow_attacks.EVIL], 2]
    assert questions["upper case"] == [0, [uplink_allow_attacks.GOOD], 2]
    assert questions["missing"] == [uplink_names.NO_NAME, [], 0]
    for kind in ("AAAA", "HTTPS", "TXT", "ANY"):
        assert questions[kind] == [0, [], 0], kind


@needs_haproxy
def test_only_the_name_of_a_question_is_passed_on(questions: Facts) -> None:
    assert questions["extra"] == [0, [uplink_allow_attacks.GOOD], 2]
    for text in questions["passed on"]:
        message = bytes.fromhex(text)
        assert message.endswith(b"\0\0\1\0\1"), "nothing follows the type and the class"
        assert b"evil" not in message


@needs_haproxy
def test_port_of_a_name_is_open_while_its_address_is_valid(questions: Facts) -> None:
    assert NOT_REACHED in questions["before"]
    assert questions["after"] == "open"
    assert NOT_REACHED in questions["other port"]
    assert questions["expired"] == f"later [Errno 113] {NOT_REACHED}", "the connection continues"


@needs_haproxy
def test_pip_downloads_from_an_index(tmp_path: Path) -> None:
    facts = lab(tmp_path, "downloads")
    for egress in ("open", "allow"):
        answer = facts[f"{egress} {uplink_allow_lab.INDEX}"]
        assert answer[:2] == [0, [uplink_allow_lab.WHEEL]], answer
    assert facts["open pypi.example.com"][0] == 0
    assert facts["allow pypi.example.com"][:2] == [1, []], "the same machine, by another name"


@needs_haproxy
def test_twenty_hosts_have_allow_at_once(tmp_path: Path) -> None:
    assert lab(tmp_path, "many")["reached"] == [[True, REFUSED]] * 20


@needs_haproxy
def test_processes_end_together_and_with_the_machine(tmp_path: Path) -> None:
    facts = lab(tmp_path, "life")
    for victim in ("machine", "guard", "slirp4netns", "namespace", "haproxy", "names"):
        assert facts[victim] == [5, True], victim


def answer(name: str, *records: tuple[str, int, bytes]) -> tuple[bytes, bytes]:
    """Return a question and an answer to it."""
    question = uplink_names.write_question(77, name)
    head = question[:2] + struct.pack("!HHHHH", 0x8180, 1, len(records), 0, 0)
    text = b"".join(
        uplink_names.write_question(0, owner)[12:-4]
        + struct.pack("!HHIH", kind, 1, 60, len(data))
        + data
        for owner, kind, data in records
    )
    return question, head + question[12:] + text


ADDRESS = socket.inet_aton("203.0.113.7")


def test_address_of_another_name_does_not_count() -> None:
    question, message = answer("a.org", ("b.org", uplink_names.ADDRESS, ADDRESS))
    assert uplink_names.read_answer(message, question)[1] == []
    question, message = answer("a.org", ("a.org", uplink_names.ADDRESS, ADDRESS))
    assert uplink_names.read_answer(message, question) == (0, ["203.0.113.7"], 60)


@pytest.mark.parametrize("name", ["a b", "a\n", "\\xff" * 20, "a..b", "", "é", "a" * 64])
def test_unusual_name_below_a_domain_is_not_passed_on(name: str) -> None:
    names = uplink_names.Names({"names": [["*.example.org", 0]], "denied": [], "allowed": []})
    assert names.ports("a.b.example.org") == {80, 443}
    assert names.ports(f"{name}.example.org") == set()


def test_name_of_an_attempt_cannot_control_a_terminal(tmp_path: Path) -> None:
    record = uplink_names.Refusals(str(tmp_path / "refused.json"), ["false"])
    record.add("\x1b[2J\nevil", "dns")
    assert list(record.counts) == [("?[2J?evil", "dns", 0)]


def test_aliases_in_a_circle_end() -> None:
    alias = uplink_names.write_question(0, "a.org")[12:-4]
    question, message = answer("a.org", ("a.org", uplink_names.CNAME, alias))
    assert uplink_names.read_answer(message, question)[1] == []


@pytest.mark.parametrize(
    "change",
    [
        lambda message: message[:-3],
        lambda message: message[:20],
        lambda message: b"\0\0" + message[2:],
        lambda message: message[:2] + b"\1" + message[3:],
        lambda message: message[:12] + b"\1b" + message[14:],
        lambda message: message[:12] + b"\xc0\x0c" + message[14:],
        lambda message: message[:12] + b"\x41" * 80,
    ],
)
def test_malformed_answer_is_an_error_or_has_no_address(change: Any) -> None:
    question, message = answer("a.org", ("a.org", uplink_names.ADDRESS, ADDRESS))
    with suppress(uplink_names.MessageError):
        assert uplink_names.read_answer(change(message), question)[1] == []


def test_record_has_a_limited_size_and_outlives_its_process(tmp_path: Path) -> None:
    path = str(tmp_path / "refused.json")
    record = uplink_names.Refusals(path, ["false"])
    for number in range(2 * uplink_names.RECORDS_MAX):
        record.add(f"name-{number}", "dns")
    record.add("name-0", "dns")
    record.write()
    entries = json.loads(Path(path).read_text())
    assert len(entries) == uplink_names.RECORDS_MAX + 1
    assert entries[0] == {"destination": "name-0", "protocol": "dns", "port": 0, "count": 2}
    assert entries[-1]["destination"] == uplink_names.OTHERS
    assert entries[-1]["count"] == uplink_names.RECORDS_MAX
    later = uplink_names.Refusals(path, ["false"])
    later.add("name-0", "dns")
    later.write()
    assert json.loads(Path(path).read_text())[0]["count"] == 3


def test_refused_attempts_are_read_from_the_record(tmp_path: Path) -> None:
    assert uplink.refused(tmp_path) == ()
    record = uplink_names.Refusals(str(tmp_path / uplink.RECORD), ["false"])
    record.add("a.example.org", "dns")
    record.add("192.0.2.7", "tcp", 25, count=3)
    record.write()
    assert uplink.refused(tmp_path) == (
        RefusedDestination("192.0.2.7", "tcp", 25, 3),
        RefusedDestination("a.example.org", "dns", 0, 1),
    )
    for text in ("", "{}", "[7]", '[{"destination": "a"}]'):
        (tmp_path / uplink.RECORD).write_text(text)
        assert uplink.refused(tmp_path) == ()


def test_configuration_without_names_is_valid() -> None:
    text = uplink_proxy.configuration((), "127.0.0.1").format(log=2)
    assert text.count("acl allowed always_false") == 2


def test_process_ends_if_a_part_of_the_name_server_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses: list[int] = []
    monkeypatch.setattr(os, "_exit", statuses.append)

    def fail() -> None:
        raise OSError("too many open files")

    with pytest.raises(OSError, match="too many"):
        uplink_names.run_or_end(fail)
    assert statuses == [1]
