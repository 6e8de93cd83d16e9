# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What forks, readings and whole plays take on a simulated vCenter, beside what they are made of
and what they replace.

One run, one simulator, one machine: the figures are compared with each other, never with those of
another machine or of a real vCenter.

fleet      one fleet through the SDK, beside a loop of plain pyvmomi that makes the same calls with
the same parallelism observe    everything of a yard, beside a bare bulk read of the same machines
play       site.yml for that fleet, beside community.vmware.vmware_guest_instant_clone in a loop,
scaled from a few

The last comparison wants an environment with the PyPI package `ansible`, which has community.vmware
in it:

    python3 -m venv DIR && DIR/bin/pip install ansible pyvmomi requests cryptography
    make bench ARGS="vsphere --ansible DIR"
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from stockyard import FleetSpec, ImageSpec, TemplateSpec, Yard
from tests.vcsim.bare import Loop
from tests.vcsim.simulator import SOURCE, Simulator
from tests.vcsim.test_site import SITE, VsphereController
from tests.vcsim.test_speed import bulk_read, make_hosts

from .book import Book
from .options import Options

BOUNDS = {"fleet / loop": 1.5, "observe / bulk read": 2.0, "play / community": 0.05}
MODULE = "community.vmware.vmware_guest_instant_clone"
# Clones that the community's module is measured with.
ITEMS = 10


def measure(book: Book, options: Options) -> None:
    """Each beside what it is held against."""
    count, samples = (50, 3) if options.full else (20, 2)
    found = {
        **forks(count, samples),
        **readings(samples),
        **plays(count, ITEMS, options.ansible, samples),
    }
    for name, taken in found.items():
        book.note(name, "s", *taken)
    for name, most in BOUNDS.items():
        ours, _slash, theirs = name.partition(" / ")
        book.ratio(ours, theirs, most=most)


def seconds(call: Callable[[], object]) -> float:
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


def opened(vcenter: Simulator) -> Yard:
    """A yard on a simulator, whose password only this process is told."""
    os.environ.update(vcenter.environment)
    return Yard(vcenter.uri + "?endpoints=false", pki_dir=str(vcenter.directory / "pki"))


def forks(count: int, samples: int) -> dict[str, list[float]]:
    """A fleet, and the same calls in a loop, in turn."""
    found: dict[str, list[float]] = {"fleet": [], "loop": []}
    with Simulator() as vcenter, opened(vcenter) as yard:
        yard.template(TemplateSpec("base", image=ImageSpec(source=SOURCE)))
        (template,) = yard.context.provider.observe("stockyard").templates
        register = vcenter.find("stockyard/stockyard-register")._moId
        for _sample in range(samples):
            vcenter.reset()
            found["fleet"].append(
                seconds(lambda: yard.fleet(FleetSpec("web", template="base", count=count)))
            )
            log, calls = vcenter.log(), vcenter.calls()
            loop = Loop(
                vcenter,
                f"DC0/vm/stockyard/{template.record.domain}",
                yard.context.provider.capabilities.parallel,
            )
            found["loop"].append(loop.make(count, calls, log, register))
            vcenter.clear(loop.folder)
            yard.remove_fleet("web")
    return found


def readings(samples: int) -> dict[str, list[float]]:
    """A thousand hosts, observed and read."""
    with Simulator() as vcenter, opened(vcenter) as yard:
        provider, instance = yard.context.provider, vcenter.connect()
        yard.template(TemplateSpec("base", image=ImageSpec(source=SOURCE)))
        template = provider.observe("stockyard").templates[0].record
        source = vcenter.find(f"stockyard/{template.domain}")
        make_hosts(vcenter, source, template.generation)
        provider.observe("stockyard")
        return {
            "observe": [
                seconds(lambda: provider.observe("stockyard")) for _sample in range(samples)
            ],
            "bulk read": [
                seconds(lambda: bulk_read(instance, source.parent)) for _sample in range(samples)
            ],
        }


def plays(count: int, items: int, ansible: str, samples: int) -> dict[str, list[float]]:
    """The site playbook with its template at hand, and the module that is there for it
    otherwise.
    """
    found: dict[str, list[float]] = {"play": []}
    with Simulator() as vcenter, tempfile.TemporaryDirectory() as home:
        os.environ.update(vcenter.environment)
        user = VsphereController(Path(home) / "user", vcenter)

        def play(hosts: int) -> float:
            return run(lambda: user.run(SITE, "-e", f"yard={user.declare(hosts)}").output)

        for _sample in range(samples):
            play(0)
            found["play"].append(play(count))
    if ansible:
        found["community"] = [looped(count, items, ansible)]
    return found


def looped(count: int, items: int, ansible: str) -> float:
    """A loop of so many clones, scaled from one of a few items.

    The start of Ansible counts once. The module looks at all machines several times for each item:
    there are as many here as there are half-way through the whole loop.
    """
    with Simulator(guests=False) as vcenter, tempfile.TemporaryDirectory() as home:
        os.environ.update(vcenter.environment)
        there = [
            {"name": f"there-{n}", "uuid": "", "key": "k", "value": "v"}
            for n in range((count - items) // 2)
        ]
        vcenter.populate(vcenter.find(SOURCE), there)
        start, some = (
            community(vcenter, Path(home), 0, ansible),
            community(vcenter, Path(home), items, ansible),
        )
    return start + (some - start) * count / items


def run(play: Callable[[], str]) -> float:
    begin = time.monotonic()
    said = play()
    taken = time.monotonic() - begin
    if "failed=0" not in said:
        raise SystemExit(said)
    return taken


def community(vcenter: Simulator, home: Path, items: int, ansible: str) -> float:
    """So many clones by the community's module, one after the other, as it does them."""
    options = {
        "hostname": vcenter.address,
        "port": vcenter.port,
        "username": vcenter.username,
        "password": "{{ lookup('ansible.builtin.env', 'VMWARE_PASSWORD') }}",
        "validate_certs": False,
        "parent_vm": SOURCE,
        "datacenter": "DC0",
        "datastore": "LocalDS_0",
        "folder": "/DC0/vm",
        "host": vcenter.find(SOURCE).runtime.host.name,
        "resource_pool": "Resources",
        "wait_vm_tools": False,
        "name": "community-{{ item }}",
    }
    task = {"name": "Clone", MODULE: options, "loop": list(range(items))}
    play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task]}]
    (home / "community.yml").write_text(json.dumps(play))
    environment = {"HOME": str(home), "PATH": f"{ansible}/bin:/usr/bin:/bin", **vcenter.environment}
    argv = [f"{ansible}/bin/ansible-playbook", "-i", "localhost,", str(home / "community.yml")]

    def played() -> str:
        done = subprocess.run(
            argv, env=environment, cwd=home, check=False, capture_output=True, text=True
        )
        return done.stdout + done.stderr

    return run(played)
