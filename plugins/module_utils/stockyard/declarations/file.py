# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""File of ``yard_*`` variables, as the playbook ``site`` reads it, without Ansible.

Only Ansible evaluates Jinja2 and decrypts Vault: a value that needs one of them is refused when a
command uses the value.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import InvalidInput, MissingDependency
from .validation import boolean, expanded_path

CONNECTION = (
    "hypervisor", "owner", "storage", "username", "password", "validate_certs", "ca_path",
    "pki_dir", "ca_certificate", "ca_private_key", "volume_key",
)  # fmt: skip
LISTS = ("pools", "templates", "volumes", "fleets", "endpoints")
SETTINGS = ("prune", "rebuild", "local_hypervisor", "save_plan", "apply_plan")
# How the playbook distributes templates among the hypervisors of a run. A command has one.
DISTRIBUTION = ("build_on", "registry", "registry_username", "registry_password")
KNOWN = {f"yard_{name}" for name in (*CONNECTION, *LISTS, *SETTINGS, *DISTRIBUTION)}
PATHS = ("storage", "ca_path", "pki_dir", "save_plan", "apply_plan")
JINJA = re.compile(r"\{[{%#]")
VAULT = "$ANSIBLE_VAULT;"


class Vaulted:
    """A value that is encrypted with Ansible Vault."""


class Unsafe(str):
    """A text that Ansible does not evaluate either."""

    __slots__ = ()


class DeclarationFile:
    """A declaration in a file.

    :param path: its path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def variables(self) -> dict[str, Any]:
        """Return the ``yard_*`` variables without the prefix, not evaluated.

        :raises InvalidInput: if the file is no declaration.
        """
        content = self._parsed()
        unknown = sorted(
            str(name) for name in content if str(name).startswith("yard") and name not in KNOWN
        )
        if unknown:
            raise self._error(
                f"{', '.join(unknown)} is not known.",
                "correct the names, and begin the names of your own variables with another word "
                "than yard",
            )
        return {
            name.removeprefix("yard_"): value for name, value in content.items() if name in KNOWN
        }

    def connection(self, omitted: Collection[str] = ()) -> dict[str, Any]:
        """Return the declared connection: texts, and ``validate_certs`` as a boolean.

        :param omitted: the names of the values that the caller has from elsewhere.
        """
        names = [name for name in CONNECTION if name in self.variables and name not in omitted]
        return {name: self._simple(name) for name in names if self.variables[name] is not None}

    def lists(self) -> dict[str, Any]:
        """Return the declared objects by kind, as they are written."""
        return {name: self.value(name) for name in LISTS if self.variables.get(name) is not None}

    def value(self, name: str) -> Any:
        """Return the value of a variable.

        :raises InvalidInput: if only Ansible can evaluate the value.
        """
        value = self.variables.get(name)
        for text in _leaves(value):
            if isinstance(text, Vaulted):
                raise self._only_ansible(name, "is encrypted with Ansible Vault")
            if JINJA.search(text) and not isinstance(text, Unsafe):
                raise self._only_ansible(name, f"contains a Jinja2 expression ({text[:60]})")
        return value

    def named_file(self, name: str) -> str:
        """Return the path that a variable contains; empty if the variable is not set."""
        return str(self._simple(name)) if self.variables.get(name) else ""

    def _simple(self, name: str) -> Any:
        value = self.value(name)
        if name == "validate_certs":
            try:
                return boolean(value)
            except TypeError:
                raise self._error(f"yard_{name} is no boolean.", "write true or false") from None
        if isinstance(value, (dict, list)):
            raise self._error(f"yard_{name} is no text.", "write a text")
        return expanded_path(value) if name in PATHS else str(value)

    def _parsed(self) -> dict[Any, Any]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InvalidInput(
                "the declaration cannot be read.",
                name=str(self.path),
                cause=getattr(error, "strerror", "") or str(error),
                remedy="name a declaration with --yard FILE",
            ) from error
        if text.startswith(VAULT):
            raise self._only_ansible("", "is encrypted with Ansible Vault")
        try:
            content = _load(text, self.path)
            # Aliases can put a value into itself.
            for _leaf in _leaves(content):
                pass
        except RecursionError as error:
            raise self._error(
                "a value is nested too deeply, or contains itself.", "write the values one by one"
            ) from error
        if not isinstance(content, dict):
            raise self._error("the file is no mapping.", "write yard_* variables and their values")
        return content

    def _only_ansible(self, name: str, reason: str) -> InvalidInput:
        subject = f"yard_{name}" if name else "the file"
        return self._error(
            f"{subject} {reason}, which only Ansible evaluates.",
            "write the value, set the option of the command for it, or run ansible-playbook "
            f"stockyard.container_hosts.site -e yard={self.path}",
        )

    def _error(self, message: str, remedy: str) -> InvalidInput:
        return InvalidInput(message, name=f"declaration {self.path}", remedy=remedy)


def _leaves(value: Any) -> Iterator[Any]:
    """Return all texts and encrypted values inside a value, keys too."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(key)
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, (str, Vaulted)):
        yield value


def _load(text: str, path: Path) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingDependency(
            "a declaration needs the library PyYAML.",
            cause=str(error),
            remedy="install python3-yaml or PyYAML>=6.0",
        ) from error

    class Loader(yaml.SafeLoader):
        """Loader of YAML with the tags of Ansible."""

    for tag in ("!vault", "!vault-encrypted"):
        Loader.add_constructor(tag, lambda _loader, _node: Vaulted())
    Loader.add_constructor("!unsafe", lambda _loader, node: Unsafe(node.value))
    try:
        return yaml.load(text, Loader)  # noqa: S506  # a safe loader with three more tags
    except yaml.YAMLError as error:
        raise InvalidInput(
            "the declaration is no valid YAML.", name=str(path), cause=" ".join(str(error).split())
        ) from error
