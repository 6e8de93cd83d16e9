# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands ``stockyard template push``, ``pull``, ``save`` and ``load``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import InvalidInput
from ..model.login import RegistryLogin
from . import say
from .command import DRY_RUN, JSON, TENANT, Argument, Command, Option, Options, timeout
from .durations import change_mode

if TYPE_CHECKING:
    from ..yard import Yard

PASSWORD = "STOCKYARD_REGISTRY_PASSWORD"  # noqa: S105  # the name of a variable
TEMPLATE = Argument("name", "NAME", "the template", complete="template")
REFERENCE = Argument("reference", "REFERENCE", "the artifact, as in registry.example.com/team/x:1")
FILE = Argument("file", "FILE", "the file")
GENERATION = Option(
    "--generation", "its first digits; by default the current one", metavar="DIGITS"
)
RENAME = Option("--name", "the name of the template here; by default its own")
TRUST = Option("--trust", "trust the signer with this public key, too", metavar="KEY", many=True)
ALLOW_BOOT = Option(
    "--allow-boot", "accept memory that cannot be resumed here: hosts boot from the disk", flag=True
)
USER = Option(
    "--registry-user",
    f"the login at the registry; the password is in ${PASSWORD}",
    metavar="USER",
    environment="STOCKYARD_REGISTRY_USER",
)


def _push(yard: Yard, options: Options) -> int:
    result = yard.templates.push(
        options.name,
        options.reference,
        options.tenant,
        generation=options.generation,
        base=options.base,
        login=_login(options),
        **change_mode(options),
    )
    return say.changes(options, [result], "artifacts")


def _save(yard: Yard, options: Options) -> int:
    result = yard.templates.save(
        options.name,
        options.file,
        options.tenant,
        generation=options.generation,
        **change_mode(options),
    )
    return say.changes(options, [result], "artifacts")


def _pull(yard: Yard, options: Options) -> int:
    result = yard.templates.pull(
        options.reference,
        options.tenant,
        name=options.name,
        trusted_keys=options.trust,
        allow_boot=options.allow_boot,
        login=_login(options),
        **change_mode(options),
    )
    return say.changes(options, [result], "templates")


def _load(yard: Yard, options: Options) -> int:
    result = yard.templates.load(
        options.file,
        options.tenant,
        name=options.name,
        trusted_keys=options.trust,
        allow_boot=options.allow_boot,
        **change_mode(options),
    )
    return say.changes(options, [result], "templates")


def _login(options: Options) -> RegistryLogin:
    password = os.environ.get(PASSWORD, "")
    if password and not options.registry_user:
        raise InvalidInput(
            f"{PASSWORD} is set, and no user of the registry.", remedy="add --registry-user"
        )
    return RegistryLogin(options.registry_user, password)


TRANSFERS = (
    Command(
        "push",
        "send a template to a registry, signed with the key of its tenant",
        _push,
        (
            TEMPLATE,
            REFERENCE,
            GENERATION,
            Option(
                "--base",
                "an artifact of the same registry whose content is not sent again",
                metavar="REFERENCE",
            ),
            USER,
            TENANT,
            timeout("1h"),
            DRY_RUN,
            JSON,
        ),
    ),
    Command(
        "pull",
        "fetch a template from a registry, and make it the current generation",
        _pull,
        (REFERENCE, RENAME, TRUST, ALLOW_BOOT, USER, TENANT, timeout("1h"), DRY_RUN, JSON),
    ),
    Command(
        "save",
        "write a template to a file, signed with the key of its tenant",
        _save,
        (TEMPLATE, FILE, GENERATION, TENANT, timeout("1h"), DRY_RUN, JSON),
    ),
    Command(
        "load",
        "read a template from a file, and make it the current generation",
        _load,
        (FILE, RENAME, TRUST, ALLOW_BOOT, TENANT, timeout("1h"), DRY_RUN, JSON),
    ),
)
