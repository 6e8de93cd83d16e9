# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Benchmark of stockyard, one subject after the other. ``make bench`` runs it in a few minutes,
``make bench-full`` completely; ``ARGS="start memory"`` runs some subjects.

All figures come from one run on one machine. Compare them with each other, not with those of
another machine.

ansible   the cost of Ansible: a site without changes, one task for a fleet, a large inventory, a
          lease
growth    1 to 1,000 hosts on the memory hypervisor and a simulated vCenter: time, and calls to the
          hypervisor
vsphere   forks, reads and plays on a simulated vCenter, compared with the bare calls
start     one fork of a real guest, phase by phase, compared with bare QEMU, a cold boot, and a
          saved machine
scale     1 to 32 forks: time, processor time when idle, memory
memory    the private RAM of an idle fork, compared with its cold-booted twin
branch    the pause of a branched host, the whole branch, and a child compared with an ordinary fork
io        the first write on an overlay and on a volume, and the TLS front
daytwo    a rolling rebuild, and leases
suspend   the suspension and the resume of a host with a running container
derive    a template that is derived from a frozen one, and forks of both
endpoint  docker run at an endpoint, phase by phase, compared with a fork and a ready host; ten at
          once, exec, ps, and the memory of idle machines
compute   from the call to the first command in a new machine: one after the other, staggered, and
          in bursts; with SSH, a container, and an endpoint
egress    the time until a host is ready with egress open and allow, compared with none

The last eleven need QEMU and libvirt. Each subject's figures are in build/bench/SUBJECT.json, with
every sample.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

from .book import Book
from .machine import machine
from .options import Options

WORK = Path(__file__).parents[1] / "build" / "bench"
SUBJECTS = (
    "ansible",
    "growth",
    "vsphere",
    "start",
    "scale",
    "memory",
    "branch",
    "io",
    "daytwo",
    "suspend",
    "derive",
    "endpoint",
    "compute",
    "egress",
)


def measure(subject: str, options: Options) -> Book:
    """Run one subject, save its results and print them."""
    say(f"{subject} …")
    book = Book(subject, full=options.full)
    with book.attempt("the rest"):
        importlib.import_module(f"bench.{subject}").measure(book, options)
    path = book.save(WORK)
    print("\n".join(book.lines()), f"  every sample: {path}", sep="\n", flush=True)
    return book


def say(line: str) -> None:
    """Write a line for the user."""
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Run the selected subjects. A missed bound is reported; a subject that could not be measured
    is an error.
    """
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "subjects",
        nargs="*",
        metavar="SUBJECT",
        help=f"{', '.join(SUBJECTS)}; all when none is named",
    )
    parser.add_argument(
        "--full", action="store_true", help="all sizes, which takes most of an hour"
    )
    parser.add_argument(
        "--samples", type=int, default=0, help="how often what is short is measured"
    )
    parser.add_argument(
        "--minutes", type=int, nargs="+", default=[], help="when memory looks at an idle fork"
    )
    parser.add_argument(
        "--ansible", default="", help="an environment with the PyPI package ansible, for vsphere"
    )
    parser.add_argument(
        "--kvm", action="store_true", help="refuse a machine on which guests do not use KVM"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.subjects) - set(SUBJECTS):
        parser.error(f"there is no subject {', '.join(sorted(unknown))}")
    if os.geteuid() == 0:
        parser.error(
            "libvirt's session is for ordinary users: run `make bench`, which drops to one"
        )
    facts = machine()
    if arguments.kvm and facts["accelerator"] != "KVM":
        parser.error(
            "guests do not use KVM here, so these figures would mean nothing. The processor must "
            "show vmx or svm (nested virtualization in a virtual machine), and this user must be "
            "able to open /dev/kvm: load the module kvm_intel or kvm_amd and join the group kvm"
        )
    WORK.mkdir(parents=True, exist_ok=True)
    samples = arguments.samples or (10 if arguments.full else 5)
    options = Options(WORK, arguments.full, samples, tuple(arguments.minutes), arguments.ansible)
    books = [measure(subject, options) for subject in arguments.subjects or SUBJECTS]
    if arguments.kvm:
        print(
            f"measured with KVM on {facts['processor']}, {facts['cores']} cores, "
            f"{facts['memory']}, {facts['kernel']}, {facts['qemu']}, {facts['libvirt']}",
            "To have these figures published, add the JSON files named above and the kind of disk "
            "to docs/performance.md in a pull request. They name no user, host or address.",
            sep="\n",
        )
    return int(any(book.failed for book in books))


if __name__ == "__main__":
    sys.exit(main())
