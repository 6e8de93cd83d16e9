# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's yard, used once for each kind of object: for tests on another system, which run this
file there as a program.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stockyard import (
    BranchSpec,
    Cpu,
    Hardware,
    HostInfo,
    HostSpec,
    SingleSpec,
    TemplateSpec,
    Unsupported,
    VolumeSpec,
    Yard,
)
from stockyard.providers.libvirt.frozen import PARTS
from tests.helpers import uplink_lab

from .conftest import ssh
from .test_identity import DISTINCT, inside
from .test_pki_life import answers, own, refused
from .test_whole_yard import processes

OWNER = "demo"
HOME = Path.home()
# The names of two templates, and the CPU model of the second one.
TRAVELLERS, MODEL = ("docker", "portable"), "Westmere"
INSIDE = {
    "hostname": "hostname",
    "docker": "docker info --format {{.ServerVersion}}",
    "processor": "grep -m1 'model name' /proc/cpuinfo",
}
FETCH = 'import urllib.request as u; print(len(u.urlopen("{}", timeout=30).read()))'


def open_yard() -> Yard:
    """Open the demo's yard, whose storage and keys are where users have them."""
    return Yard("qemu:///session", owner=OWNER)


def everything() -> dict[str, Any]:
    """Use hosts, volumes, branches and leases of the demo."""
    with open_yard() as yard:
        hosts = yard.hosts.list(fleet="web")
        facts = [inside(host) for host in hosts]
        (template,) = yard.templates.list()
        files = Path(template.storage, "templates", template.uuid)
        result: dict[str, Any] = {
            "frozen": [f"{(files / part).stat().st_mode & 0o777:o}" for part in PARTS],
            "ready": [host.name for host in hosts if host.ready],
            "addresses": [host.address for host in hosts],
            "mode": [host.mode for host in hosts],
            "distinct": [len({fact[key] for fact in facts if key in fact}) for key in DISTINCT],
            "docker": [answers(host, own(host)) for host in hosts],
            "volume": volume(yard, hosts[0]),
            "branch": branch(yard),
        }
        lease = yard.leases.acquire("web", holder="smoke", duration=900)
        folder = Path(lease.environment["DOCKER_CERT_PATH"])
        own_host = next(host for host in hosts if host.name == lease.host)
        other_host = next(host for host in hosts if host.name != lease.host)
        result["lease"] = [answers(own_host, folder), refused(other_host, folder)]
        lease.release()
        result["released"] = own_host.uuid not in {host.uuid for host in yard.hosts.list()}
    return result


def volume(yard: Yard, host: HostInfo) -> list[str]:
    """Attach a volume twice; return the content of a file after each time."""
    spec = VolumeSpec("smoke", size_gib=1)
    yard.volumes.apply(spec)
    contents = []
    for word in ("first", "second"):
        yard.volumes.attach(spec, host=host.name, path="/data")
        command = f"sudo sh -c 'echo {word} >>/data/file; cat /data/file'"
        contents.append(ssh(host, command).stdout.replace("\n", " ").strip())
        yard.volumes.detach(spec.name)
    yard.volumes.delete(spec.name)
    return contents


def branch(yard: Yard) -> list[str]:
    """Branch a host; return the content of a file in memory, and the names of both hosts."""
    parent = yard.hosts.apply(SingleSpec("trunk", "docker")).object
    ssh(parent, "echo kept | sudo tee /run/smoke")
    (child,) = yard.hosts.branch(BranchSpec("trunk", ("twig",))).objects
    words = [ssh(child, "cat /run/smoke; hostname").stdout, ssh(parent, "hostname").stdout]
    for name in ("twig", "trunk"):
        yard.hosts.delete(name)
    return " ".join(words).split()


def state() -> dict[str, Any]:
    """Return the facts of drift of each template, the mode of each ready host, and all machines."""
    with open_yard() as yard:
        return {
            "templates": {
                template.uuid: [drift.fact for drift in template.drift]
                for template in yard.templates.list()
            },
            "hosts": {host.name: host.mode for host in yard.hosts.list() if host.ready},
            "machines": [host.uuid for host in yard.hosts.list()],
        }


def save_templates() -> dict[str, Any]:
    """Save the demo's template, and one with a CPU model that other processors have too."""
    hardware = Hardware(cpu=Cpu(MODEL))
    with open_yard() as yard:
        yard.templates.apply(TemplateSpec("portable", hardware=hardware))
        keys = {name: yard.templates.save(name, HOME / name).object.key for name in TRAVELLERS}
    (HOME / "keys.json").write_text(json.dumps(keys))
    return keys


def load_templates() -> dict[str, Any]:
    """Load the saved templates as another owner with another storage; return the refusals of those
    that cannot be resumed, and a host of each.
    """
    keys = json.loads((HOME / "keys.json").read_text())
    storage, keys_folder = str(HOME / "second"), str(HOME / "second-pki")
    result: dict[str, Any] = {}
    with Yard("qemu:///session", owner="traveller", storage=storage, pki_dir=keys_folder) as yard:
        for name, key in keys.items():
            refusal = ""
            try:
                yard.templates.load(HOME / name, trusted_keys=(key,))
            except Unsupported as error:
                refusal = str(error)
                yard.templates.load(HOME / name, trusted_keys=(key,), allow_boot=True)
            host = yard.hosts.apply(SingleSpec(f"on-{name}", name)).object
            facts = {"mode": host.mode, "reason": host.mode_reason, "refusal": refusal}
            for fact, command in INSIDE.items():
                facts[fact] = ssh(host, command).stdout.strip()
            result[name] = facts
        yard.teardown(templates=True)
    return result


def remaining() -> dict[str, Any]:
    """Return the objects of hosts that exist after a teardown."""
    with open_yard() as yard:
        (template,) = yard.templates.list()
        storage = Path(template.storage)
        listening = subprocess.run(
            ["ss", "-Hltn"], capture_output=True, text=True, check=True
        ).stdout
        return {
            "hosts": [host.name for host in yard.hosts.list()],
            "directories": [path.name for path in (storage / "hosts").iterdir()],
            "locks": [p.name for p in (storage / "locks").iterdir() if p.name.startswith(OWNER)],
            "processes": processes(OWNER),
            "listening": re.findall(r"(\S+):2376\s", listening),
        }


@contextmanager
def name_server() -> Iterator[None]:
    """Run the name server of the hypervisor."""
    program = [sys.executable, "-c", uplink_lab.NAME_SERVER_PROGRAM]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
        try:
            yield
        finally:
            process.kill()


def way_out() -> dict[str, Any]:
    """Use the way out of a host with open egress, in a namespace where all other machines are in a
    second one.
    """
    os.environ["LAB"] = tempfile.mkdtemp()
    with (
        uplink_lab.other_namespace() as far_side,
        uplink_lab.served(far_side) as port,
        name_server(),
        open_yard() as yard,
    ):
        uplink_lab.build_hypervisor(far_side)
        host = yard.hosts.apply(SingleSpec("out", "docker", host=HostSpec(egress="open"))).object
        result: dict[str, Any] = {"ready": host.ready, "processes": uplink_lab.processes()}
        for name, address in (("named", "packages.example.org"), ("private", "10.9.8.7")):
            command = ["python3", "-"]
            program = FETCH.format(f"http://{address}:{port}/large")
            answer = ssh(host, *command, stdin=program, timeout=180)
            result[name] = (answer.stdout or answer.stderr).split("\n")[-2:]
        yard.hosts.delete("out")
        end = time.monotonic() + 30
        while uplink_lab.processes() and time.monotonic() < end:
            time.sleep(0.2)
        result["left"] = uplink_lab.processes()
    return result


if __name__ == "__main__":
    functions = (everything, state, save_templates, load_templates, remaining, way_out)
    named = {function.__name__: function for function in functions}
    print(json.dumps(named[sys.argv[1]]()))
