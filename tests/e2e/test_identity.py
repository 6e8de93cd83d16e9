# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""No two hosts share what makes a host itself."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from stockyard import FleetSpec, Hardware, HostInfo, SingleSpec, TemplateInfo, TemplateSpec, Yard
from stockyard.clock import SystemClock
from stockyard.guest.agent import effects
from tests.helpers.values import present

from .conftest import TEMPLATE, WORK, ssh

pytestmark = pytest.mark.real

# One shell, as root, and as few programs as will do: each costs a second under emulation.
ASK = """
logger -t probe line
for fact in mac=/sys/class/net/eth0/address hostname=/proc/sys/kernel/hostname \\
  machine_id=/etc/machine-id \\
  dbus_id=/var/lib/dbus/machine-id ssh_key=/etc/ssh/ssh_host_ed25519_key.pub; do
  read -r first rest < ${fact#*=}
  echo ${fact%%=*}=$first $rest
done
echo tls_key=$(sha256sum < /var/lib/stockyard/tls/key.pem)
openssl x509 -noout -serial -in /var/lib/stockyard/tls/cert.pem
journalctl -q --sync
journalctl -q -t probe -n 1 -o export --output-fields=_MACHINE_ID | grep -a ^_MACHINE_ID=
echo clock=$(date +%s.%N)
"""
DAY = 86400
DISTINCT = ("uuid", "mac", "hostname", "machine_id", "ssh_key", "tls_key", "serial")


@pytest.fixture(scope="module")
def facts(fleet: list[HostInfo]) -> list[dict[str, str]]:
    """The identity of each guest, read inside."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(inside, fleet))


def inside(host: HostInfo) -> dict[str, str]:
    begin = time.time()
    result = ssh(host, f"sudo sh -c {shlex.quote(ASK)}")
    assert result.returncode == 0, result.stderr
    values_by_name = dict(line.split("=", 1) for line in result.stdout.splitlines())
    return {**values_by_name, "uuid": host.uuid, "asked": str(begin), "answered": str(time.time())}


def of_template(template: TemplateInfo) -> dict[str, str]:
    """The same of the template, read from its record and its disk."""
    raw = WORK / "template.raw"
    disk = Path(template.storage) / "templates" / template.uuid / "disk.qcow2"
    subprocess.run(["qemu-img", "convert", "-U", "-O", "raw", disk, raw], check=True)
    try:
        keys = read_from(raw, "/etc/ssh")
        assert "ssh_host" not in keys
        assert "tls" not in read_from(raw, "/var/lib/stockyard")
        machine_id = debugfs(raw, "cat /etc/machine-id").strip()
    finally:
        raw.unlink()
    return {
        "uuid": template.uuid,
        "mac": template.mac,
        "hostname": "template",
        "machine_id": machine_id,
    }


def read_from(raw: Path, folder: str) -> str:
    return debugfs(raw, f"ls -p {folder}")


def debugfs(raw: Path, request: str) -> str:
    return subprocess.run(
        ["/sbin/debugfs", "-R", request, raw], capture_output=True, text=True, check=True
    ).stdout


def test_ten_forks_and_their_template_differ_in_everything(
    facts: list[dict[str, str]], template: TemplateInfo
) -> None:
    everybody = [*facts, of_template(template)]
    for key in DISTINCT:
        values = [host_facts[key] for host_facts in everybody if key in host_facts]
        assert len(values) >= len(facts)
        assert len(set(values)) == len(values), f"{key} is shared: {values}"


def test_one_machine_id_everywhere_in_a_host(facts: list[dict[str, str]]) -> None:
    for host_facts in facts:
        assert host_facts["machine_id"] == host_facts["dbus_id"] == host_facts["_MACHINE_ID"], (
            host_facts
        )


def test_records_equal_the_identity_in_the_guests(
    facts: list[dict[str, str]], fleet: list[HostInfo]
) -> None:
    for host_facts, host in zip(facts, fleet, strict=True):
        assert host_facts["mac"] == host.mac
        assert host_facts["hostname"] == host.name
        assert host_facts["machine_id"] == present(host.identity).machine_id
        assert present(host.identity).ssh_host_key == " ".join(host_facts["ssh_key"].split()[:2])
        assert int(host_facts["serial"], 16) == int(present(host.identity).certificate, 16)


def test_clocks_are_right_though_the_template_is_old(facts: list[dict[str, str]]) -> None:
    for host_facts in facts:
        assert (
            float(host_facts["asked"]) - 1
            < float(host_facts["clock"])
            < float(host_facts["answered"]) + 1
        )


class Tomorrow(SystemClock):
    """A controller's clock by which every template is a day older."""

    def now(self) -> float:
        return super().now() + DAY


def test_the_clock_is_right_in_a_fork_of_a_day_old_template(
    yard: Yard, template: TemplateInfo, tmp_path: Path
) -> None:
    """A fork's clock goes on where the freeze stopped it; what the controller says a day later
    counts, not that.
    """
    store, owner = template.storage, yard.context.owner
    with Yard(owner=owner, storage=store, pki_dir=str(tmp_path / "pki"), clock=Tomorrow()) as later:
        try:
            # Docker's certificate is valid from tomorrow on, so it is not waited for.
            host = later.hosts.apply(SingleSpec("tomorrow", "docker"), wait=False).objects[0]
            tomorrow = time.time() + DAY
            output = ssh(host, "date +%s.%N")
            assert tomorrow - 1 < float(output.stdout) < time.time() + DAY + 1, output.stderr
        finally:
            later.hosts.delete("tomorrow")


@pytest.mark.full
def test_the_keys_are_equal_when_the_reseed_is_taken_out(yard: Yard) -> None:
    """So the test above does not pass by luck: the same agent less its reseed gives forks the same
    keys.
    """
    source = Path(effects.__file__).read_text()
    start = source.index("    def reseed(self, entropy: bytes) -> None:\n        request")
    end = source.index("    def random(self, count: int) -> bytes:\n        return")
    broken = (
        source[:start]
        + "    def reseed(self, entropy: bytes) -> None:\n        return\n\n"
        + source[end:]
    )
    path = "/usr/lib/stockyard/stockyard_agent/effects.py"
    image = replace(TEMPLATE.image, files={path: broken})
    try:
        # Docker is not needed for this, and not waited for: half the boot.
        yard.templates.apply(
            TemplateSpec(
                "unseeded", image=image, docker="stopped", hardware=Hardware(memory_mib=512)
            )
        )
        hosts = yard.fleets.apply(FleetSpec("few", "unseeded", count=5), wait=False).objects
    finally:
        yard.fleets.delete("few")
        yard.templates.delete("unseeded")
    assert len({present(h.identity).machine_id for h in hosts}) == len(hosts) == 5
    # Not always all of them: a guest that reads the generator once more than its twin is ahead of
    # it from then on.
    assert len({present(h.identity).ssh_host_key for h in hosts}) < len(hosts)


def test_metadata_holds_no_secret(yard: Yard, fleet: list[HostInfo]) -> None:
    text = json.dumps([host.to_dict() for host in yard.hosts.list()])
    assert "PRIVATE KEY" not in text
    xml = subprocess.run(
        ["virsh", "-c", "qemu:///session", "dumpxml", fleet[0].uuid],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "PRIVATE KEY" not in xml
