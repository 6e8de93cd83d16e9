# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that select the yard, and the opening of the yard.

An option wins over the declaration, the declaration over the environment, as with the playbooks.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..declarations.file import DeclarationFile
from ..errors import InvalidInput
from . import say
from .command import Option, Options
from .locate import locate

if TYPE_CHECKING:
    from ..yard import Yard

OPTIONS = (
    Option(
        "--yard",
        "the declaration, a file of yard_* variables; by default $STOCKYARD_YARD, yard.yml in this "
        "directory, or the file that the last demo here applied; - for none",
        metavar="FILE",
    ),
    Option(
        "--hypervisor",
        "by default as declared, else $STOCKYARD_HYPERVISOR, else qemu:///session",
        metavar="URI",
    ),
    Option("--owner", "by default as declared, else $STOCKYARD_OWNER, else stockyard"),
    Option("--storage", "directory or datastore of the hypervisor's files", metavar="DIR"),
    Option("--pki-dir", "directory of keys and certificates", metavar="DIR"),
    Option(
        "--ca-certificate", "the tenant's CA, as PEM, instead of one in --pki-dir", metavar="FILE"
    ),
    Option("--ca-private-key", "its private key", metavar="FILE"),
    Option(
        "--volume-key",
        "secret from which the keys of encrypted volumes are derived",
        metavar="FILE",
    ),
    Option("--quiet", "do not print progress", flag=True),
)


def open_yard(options: Options) -> Yard:
    """Return the yard that the options, the declaration and the environment select."""
    from ..model.login import Login
    from ..yard import DEFAULT_OWNER, Yard

    facts = facts_of(options)
    return Yard(
        facts.get("hypervisor", ""),
        owner=facts.get("owner") or os.environ.get("STOCKYARD_OWNER") or DEFAULT_OWNER,
        storage=facts.get("storage"),
        login=Login(
            facts.get("username", ""),
            facts.get("password", ""),
            facts.get("validate_certs"),
            facts.get("ca_path", ""),
        ),
        pki_dir=facts.get("pki_dir"),
        ca_certificate=facts.get("ca_certificate", ""),
        ca_private_key=facts.get("ca_private_key", ""),
        volume_key=facts.get("volume_key", "").strip(),
        progress=None if options.quiet else say.progress,
    )


def declaration(options: Options) -> DeclarationFile | None:
    """Return the declaration that a command uses, if there is one."""
    return locate(options.yard)


def facts_of(options: Options) -> dict[str, Any]:
    """Return the connection as the options set it, else as it is declared."""
    facts: dict[str, Any] = {
        "hypervisor": options.hypervisor,
        "owner": options.owner,
        "storage": options.storage,
        "pki_dir": options.pki_dir,
        "ca_certificate": _read(options.ca_certificate),
        "ca_private_key": _read(options.ca_private_key),
        "volume_key": _read(options.volume_key),
    }
    chosen = {name: value for name, value in facts.items() if value}
    file = declaration(options)
    return {**file.connection(omitted=set(chosen)), **chosen} if file else chosen


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8") if path else ""
    except (OSError, ValueError) as error:
        raise InvalidInput("the file cannot be read.", name=path, cause=str(error)) from error
