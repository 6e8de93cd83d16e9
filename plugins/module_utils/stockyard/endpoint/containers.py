# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The containers of an endpoint: ids, names, and the machine of each."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus

from ..guest.security.reader.grammar import Refusal

# The networks that each machine has from the start; empty is the default one.
BUILT_IN_NETWORKS = ("", "default", "bridge", "host", "none")
_ID = re.compile("[0-9a-f]{64}")
_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")
# Forks of one machine propose the same names, so the endpoint chooses them.
_QUALITIES = (
    "agile amber bold brave brisk calm clever crisp daring eager early fair fleet fresh gentle "
    "golden happy hardy jolly keen kind light lively loyal lucid mellow merry mild nimble noble "
    "patient placid polite proud quick quiet rapid ready rustic sharp silent silver smart solid "
    "steady sturdy sunny swift tidy vivid warm wise witty young"
)
_ANIMALS = (
    "alpaca badger beaver bison camel caribou cattle colt cow cougar deer donkey eagle elk ewe "
    "falcon fawn ferret filly foal fox gazelle goat goose guanaco hare hawk heifer heron horse "
    "ibex jackal kid lamb llama lynx mare mink moose mule mustang otter ox pig pony puma ram "
    "raven reindeer sheep steer stork swan yak zebu"
)


@dataclass(frozen=True)
class Container:
    """One container.

    :param machine: the name of its machine.
    :param networks: the names of its user-defined networks.
    :param volumes: the names of its volumes, the anonymous ones included.
    """

    id: str
    name: str
    machine: str
    networks: frozenset[str] = frozenset()
    volumes: frozenset[str] = frozenset()


class Containers:
    """The index of containers. Docker in each machine has the truth: the index only says which
    machine to ask.
    """

    def __init__(self) -> None:
        self._by_id: dict[str, Container] = {}
        self._reserved: set[str] = set()

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._by_id.values()))

    def on(self, machine: str) -> list[Container]:
        """Return the containers of a machine."""
        return [container for container in self if container.machine == machine]

    def add(self, container: Container) -> None:
        """Add a container, or replace the entry with its id."""
        self._by_id[container.id] = container

    def remove(self, container_id: str) -> None:
        """Remove a container, if it is in the index."""
        self._by_id.pop(container_id, None)

    def change_name(self, container_id: str, name: str) -> None:
        """Change the name of a container."""
        if container_id in self._by_id:
            self._by_id[container_id] = replace(self._by_id[container_id], name=name)

    def find(self, reference: str) -> Container:
        """Return a container by its id, its name, or the start of its id.

        :raises Refusal: in Docker's words, if there is no such container or more than one.
        """
        name = reference.removeprefix("/")
        exact = self._by_id.get(reference) or self.named(name)
        if exact:
            return exact
        matches = [c for c in self if reference and c.id.startswith(reference)]
        if len(matches) > 1:
            raise Refusal(
                f"Multiple IDs found with provided prefix: {reference}",
                HTTPStatus.INTERNAL_SERVER_ERROR,
            )
        if not matches:
            raise Refusal(f"No such container: {reference}", HTTPStatus.NOT_FOUND)
        return matches[0]

    def with_id(self, container_id: str) -> Container | None:
        """Return the container with a complete id."""
        return self._by_id.get(container_id)

    def named(self, name: str) -> Container | None:
        """Return the container with a name."""
        return next((container for container in self if container.name == name), None)

    @contextmanager
    def reserved(self, name: str) -> Iterator[None]:
        """Reserve a name for a container that is being created or renamed.

        :raises Refusal: if the name is taken, in Docker's words.
        """
        holder = self.named(name)
        if holder or name in self._reserved:
            raise Refusal(
                f'Conflict. The container name "/{name}" is already in use by container '
                f'"{holder.id if holder else ""}". You have to remove (or rename) that container '
                "to be able to reuse that name.",
                HTTPStatus.CONFLICT,
            )
        self._reserved.add(name)
        try:
            yield
        finally:
            self._reserved.discard(name)

    def propose_name(self) -> str:
        """Return a name that no container has."""
        qualities, animals = _QUALITIES.split(), _ANIMALS.split()
        suffix = ""
        while True:
            name = f"{secrets.choice(qualities)}_{secrets.choice(animals)}{suffix}"
            if not self.named(name) and name not in self._reserved:
                return name
            # The more containers, the longer the names.
            suffix = str(secrets.randbelow(10000))


def is_id(value: object) -> bool:
    """Return whether a value has the form of a complete id."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def check_name(name: str) -> str:
    """Return a name without the slash that Docker puts before it.

    :raises Refusal: if it is no name, in Docker's words.
    """
    if not _NAME.fullmatch(name):
        raise Refusal(
            f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    return name.removeprefix("/")
