# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""No two hosts share what makes a host itself."""

from __future__ import annotations

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import FleetSpec, ImageSpec, TemplateSpec, Yard
from stockyard.guest.agent import effects

from .conftest import TEMPLATE, WORK, ssh

pytestmark = pytest.mark.real

ASK = """
echo mac=$(cat /sys/class/net/eth0/address)
echo hostname=$(cat /proc/sys/kernel/hostname)
echo machine_id=$(cat /etc/machine-id)
echo dbus_id=$(cat /var/lib/dbus/machine-id)
echo ssh_key=$(cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub)
echo tls_key=$(sudo sha256sum /var/lib/stockyard/tls/key.pem | cut -d' ' -f1)
echo serial=$(openssl x509 -noout -serial -in /var/lib/stockyard/tls/cert.pem | cut -d= -f2)
echo clock=$(date +%s.%N)
logger -t probe line
sudo journalctl -q --sync
line=$(sudo journalctl -q -t probe -n 1 -o export --output-fields=_MACHINE_ID | grep ^_MACHINE_ID=)
echo journal_id=${line#*=}
"""
DISTINCT = ("uuid", "mac", "hostname", "machine_id", "ssh_key", "tls_key", "serial")


@pytest.fixture(scope="module")
def facts(fleet: list[dict[str, Any]]) -> list[dict[str, str]]:
    """What each guest says of itself, seen from inside."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(inside, fleet))


def inside(host: dict[str, Any]) -> dict[str, str]:
    asked = time.time()
    done = ssh(host, ASK)
    assert done.returncode == 0, done.stderr
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    return {**found, "uuid": host["uuid"], "asked": str(asked), "answered": str(time.time())}


def of_template(template: dict[str, Any]) -> dict[str, str]:
    """The same of the template, read from its record and its disk."""
    raw = WORK / "template.raw"
    disk = Path(template["storage"]) / "templates" / template["uuid"] / "disk.qcow2"
    subprocess.run(["qemu-img", "convert", "-U", "-O", "raw", disk, raw], check=True)
    try:
        keys = read_from(raw, "/etc/ssh")
        assert "ssh_host" not in keys
        assert "tls" not in read_from(raw, "/var/lib/stockyard")
        machine_id = debugfs(raw, "cat /etc/machine-id").strip()
    finally:
        raw.unlink()
    return {"uuid": template["uuid"], "mac": template["mac"], "hostname": "template", "machine_id": machine_id}


def read_from(raw: Path, folder: str) -> str:
    return debugfs(raw, f"ls -p {folder}")


def debugfs(raw: Path, request: str) -> str:
    return subprocess.run(["/sbin/debugfs", "-R", request, raw], capture_output=True, text=True, check=True).stdout


def test_ten_forks_and_their_template_differ_in_everything(
    facts: list[dict[str, str]], template: dict[str, Any]
) -> None:
    everybody = [*facts, of_template(template)]
    for what in DISTINCT:
        values = [each[what] for each in everybody if what in each]
        assert len(values) >= len(facts)
        assert len(set(values)) == len(values), f"{what} is shared: {values}"


def test_one_machine_id_everywhere_in_a_host(facts: list[dict[str, str]]) -> None:
    for each in facts:
        assert each["machine_id"] == each["dbus_id"] == each["journal_id"], each


def test_records_say_what_the_guests_say(facts: list[dict[str, str]], fleet: list[dict[str, Any]]) -> None:
    for each, host in zip(facts, fleet, strict=True):
        assert each["mac"] == host["mac"]
        assert each["hostname"] == host["name"]
        assert each["machine_id"] == host["identity"]["machine_id"]
        assert host["identity"]["ssh_host_key"] == "ssh-ed25519 " + each["ssh_key"]
        assert int(each["serial"], 16) == int(host["identity"]["certificate"], 16)


def test_clocks_are_right_though_the_template_is_old(facts: list[dict[str, str]]) -> None:
    for each in facts:
        assert float(each["asked"]) - 1 < float(each["clock"]) < float(each["answered"]) + 1


def test_the_keys_are_equal_when_the_reseed_is_taken_out(yard: Yard) -> None:
    """So the test above does not pass by luck: the same agent less its reseed gives every fork the same keys."""
    source = Path(effects.__file__).read_text()
    start = source.index("    def reseed(self, entropy: bytes) -> None:\n        request")
    end = source.index("    def random(self, count: int) -> bytes:\n        return")
    broken = source[:start] + "    def reseed(self, entropy: bytes) -> None:\n        return\n\n" + source[end:]
    path = "/usr/lib/stockyard/stockyard_agent/effects.py"
    image = replace(TEMPLATE.image, files={path: broken})
    hosts = forks_of(yard, TemplateSpec("unseeded", image=image))
    assert len({h["identity"]["machine_id"] for h in hosts}) == len(hosts)
    assert len({h["identity"]["ssh_host_key"] for h in hosts}) == 1


def forks_of(yard: Yard, template: TemplateSpec) -> list[dict[str, Any]]:
    """Three forks of a template of their own; all of it is taken away again."""
    assert isinstance(template.image, ImageSpec)
    try:
        yard.template(template)
        return yard.fleet(FleetSpec("few", template.name, count=3)).objects
    finally:
        yard.remove_fleet("few")
        yard.remove_template(template.name)


def test_metadata_holds_no_secret(yard: Yard, fleet: list[dict[str, Any]]) -> None:
    text = json.dumps(yard.hosts())
    assert "PRIVATE KEY" not in text
    xml = subprocess.run(
        ["virsh", "-c", "qemu:///session", "dumpxml", fleet[0]["uuid"]], capture_output=True, text=True, check=True
    ).stdout
    assert "PRIVATE KEY" not in xml
