# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands for the whole yard: ``stockyard init``, ``plan``, ``apply`` and ``destroy``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..declarations.file import DeclarationFile
from ..declarations.validation import validated
from ..declarations.yard import declaration
from ..errors import InvalidInput, OperationRefused
from ..planning.declaration import PRUNE, Declaration
from . import locate, say
from .command import DRY_RUN, JSON, Argument, Command, Option, Options, timeout
from .durations import change_mode

if TYPE_CHECKING:
    from ..yard import Yard

# The name of this hypervisor in declarations for several ones, as the playbook calls it.
LOCAL = "localhost"
REBUILD = Option("--rebuild", "build every template from current packages", flag=True)
PRUNE_OPTION = Option(
    "--prune",
    "whether undeclared objects are deleted; by default as declared, else yes",
    choices=PRUNE,
)
EXAMPLE = """\
# A yard of stockyard. `stockyard plan` prints what `stockyard apply` would change. The playbook
# stockyard.container_hosts.site applies the same file.

# The owner of all objects. Two owners on one hypervisor never change each other's objects.
yard_owner: {owner}

# The hypervisor. By default the libvirt of this user, which needs no privileges.
# yard_hypervisor: qemu:///session

# A template is booted once, with Docker, and frozen. Hosts are forks of it.
yard_templates:
  - name: docker
    # memory_mib: 1024
    # vcpus: 2
    # packages: [git]

# A fleet is a number of identical hosts.
yard_fleets:
  - name: web
    template: docker
    count: 3
    # Ports of the hosts that this machine can reach.
    ports: [8080]
    # Other machines reach the hosts at ports of this address.
    # publish:
    #   address: 192.0.2.10
    # Hosts have no way out unless they get one.
    # egress: proxy
    # egress_proxy: proxy.example.org:3128
    # The lifetime of each host.
    # ttl: 8h

# Data that outlives hosts.
# yard_volumes:
#   - name: data
#     size_gib: 20
"""


def declared(file: DeclarationFile, rebuild: bool, prune: str | None) -> Declaration:
    """Return the yard that a file declares.

    :param rebuild: whether templates are built from current packages, also if not declared so.
    :param prune: wins over the declaration unless it is not set.
    """
    settings = {name: file.value(name) for name in ("prune", "rebuild", "local_hypervisor")}
    facts = {
        "prune": {"type": "str", "choices": list(PRUNE), "default": "yes"},
        "rebuild": {"type": "bool", "default": False},
        "local_hypervisor": {"type": "str", "default": LOCAL},
    }
    # YAML reads no and yes as booleans.
    if isinstance(settings["prune"], bool):
        settings["prune"] = "yes" if settings["prune"] else "no"
    params = validated(facts, settings, f"declaration {file.path}")
    params["prune"] = prune or params["prune"]
    params["rebuild"] = rebuild or params["rebuild"]
    return declaration({**params, "evacuate": True, "declaration": file.lists()}, validated)


def _init(options: Options) -> int:
    path = Path(options.file or locate.NAME)
    owner = options.owner or os.environ.get("STOCKYARD_OWNER") or "stockyard"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(EXAMPLE.format(owner=owner))
    except FileExistsError:
        raise OperationRefused(
            "the file exists.", name=str(path), remedy="delete it, or name another file"
        ) from None
    except OSError as error:
        raise InvalidInput(
            "the file cannot be written.", name=str(path), cause=str(error)
        ) from error
    if options.json:
        say.data({"file": str(path)})
    else:
        say.out(f"wrote {path}; next: stockyard plan, then stockyard apply")
    return 0


def _plan(yard: Yard, options: Options) -> int:
    file = locate.required(options.yard)
    result = yard.apply(
        declared(file, options.rebuild, options.prune),
        check=True,
        save_plan=options.save or file.named_file("save_plan"),
        apply_plan=file.named_file("apply_plan"),
    )
    plan = [str(action) for action in result.plan.actions]
    if options.json:
        say.data({"changed": result.changed, "plan": plan})
        return 0
    for action in plan:
        say.out(f"would {action}")
    if not plan:
        say.err("stockyard: nothing to change")
    return 0


def _apply(yard: Yard, options: Options) -> int:
    file = locate.required(options.yard)
    result = yard.apply(
        declared(file, options.rebuild, options.prune),
        save_plan=file.named_file("save_plan"),
        apply_plan=options.plan or file.named_file("apply_plan"),
    )
    if options.json:
        return say.changes(options, [result], "hosts")
    for action in result.plan.actions:
        say.out(str(action))
    rows = [
        (host.name, host.state, "yes" if host.ready else "no", host.docker.endpoint)
        for host in result.objects
    ]
    say.table(("NAME", "STATE", "READY", "DOCKER"), rows)
    return 0


def _destroy(yard: Yard, options: Options) -> int:
    mode: dict[str, Any] = {"templates": options.templates, "volumes": options.volumes}
    if not (options.yes or options.dry_run):
        _confirm(yard, [str(action) for action in yard.teardown(check=True, **mode).plan.actions])
    result = yard.teardown(**change_mode(options), **mode)
    plan = [str(action) for action in result.plan.actions]
    if options.json:
        say.data({"changed": result.changed, "plan": plan, "retained": list(result.retained)})
        return 0
    say.actions(options, plan)
    for name in result.retained:
        say.err(f"stockyard: {name} stays; --volumes deletes it")
    return 0


def _confirm(yard: Yard, plan: list[str]) -> None:
    """Ask the user whether to delete; without a terminal refuse."""
    if not plan:
        return
    for action in plan:
        say.err(action)
    question = f"Delete all this of owner {yard.context.owner}?"
    if not sys.stdin.isatty():
        raise OperationRefused(f"{question} There is no terminal to answer.", remedy="set --yes")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise OperationRefused("nothing was deleted.")


INIT = Command(
    "init",
    "write a declaration with comments",
    _init,
    (
        Argument("file", "FILE", "the file, by default yard.yml", required=False),
        Option("--owner", "the owner of the yard"),
        JSON,
    ),
    opens_yard=False,
)
PLAN = Command(
    "plan",
    "print what apply would change",
    _plan,
    (
        Option(
            "--save",
            "save the plan in this file, which ends in .json, for apply; by default as declared",
            metavar="FILE",
        ),
        PRUNE_OPTION,
        REBUILD,
        JSON,
    ),
)
APPLY = Command(
    "apply",
    "converge the yard to its declaration",
    _apply,
    (
        Option(
            "--plan",
            "a saved plan: nothing changes unless it is still valid; by default as declared",
            metavar="FILE",
        ),
        PRUNE_OPTION,
        REBUILD,
        JSON,
    ),
)
DESTROY = Command(
    "destroy",
    "delete all hosts of the yard, declared or not",
    _destroy,
    (
        Option("--templates", "delete templates, images and pools too", flag=True),
        Option("--volumes", "delete volumes and their data too", flag=True),
        Option("--yes", "do not ask", flag=True, short="-y"),
        timeout("10m"),
        DRY_RUN,
        JSON,
    ),
)
