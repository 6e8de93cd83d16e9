# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services of a GitLab job: containers on the host of the job, which scripts reach by their names.

GitLab's runner describes the services to a custom executor in a variable of the job. The author of
a pipeline can override it, and then starts other containers on the same host, as a script can.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidInput

VARIABLE = "CUSTOM_ENV_CI_JOB_SERVICES"
# The prefix of the variables of a job in the environment of a stage.
PREFIX = "CUSTOM_ENV_"
_ALIAS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Starts a service: its name, its aliases and the options of docker run. A repeated preparation
# replaces the container. The template user can edit the hosts file if the profile is trusted.
START = r"""
set -euo pipefail
inspect() {
  docker inspect --format "$1" "$2"
}
wait_for_port() {
  timeout 30 bash -c 'until (: < "/dev/tcp/$0/$1") 2> /dev/null; do sleep 0.2; done' "$@"
}
start_service() {
  local name=$1 aliases=$2 address port
  shift 2
  docker rm --force --volumes "$name" > /dev/null 2>&1 || true
  docker run --detach --name "$name" "$@" > /dev/null
  address=$(inspect '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$name")
  sudo -n sed -i "/ # $name\$/d" /etc/hosts
  echo "$address $aliases # $name" | sudo -n tee -a /etc/hosts > /dev/null
  echo "service $aliases: started"
  for port in $(inspect '{{range $port, $_ := .Config.ExposedPorts}}{{$port}} {{end}}' "$name"); do
    [ "${port#*/}" = tcp ] || continue
    wait_for_port "$address" "${port%/*}" ||
      echo "service $aliases: no answer at port $port after 30 seconds; its last output:" \
        "$(docker logs --tail 20 "$name" 2>&1)"
  done
}
"""


@dataclass(frozen=True)
class JobService:
    """A service of a job.

    :param image: the image of its container.
    :param alias: its name, besides those that follow from the image.
    :param entrypoint: the entry point, if not that of the image; ``command`` likewise.
    :param variables: its own variables.
    """

    image: str
    alias: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names by which scripts reach the service, as GitLab documents them."""
        path = re.sub(r"^([^/]*):\d+/", r"\1/", self.image.partition("@")[0])
        path = re.sub(r":[^/]*$", "", path)
        names = (self.alias, path.replace("/", "__"), path.replace("/", "-"))
        return tuple(dict.fromkeys(name for name in names if name))

    def words(self) -> list[str]:
        """Return the arguments of ``docker run`` after the options for variables."""
        words = [self.image, *self.entrypoint[1:], *self.command]
        return [*(("--entrypoint", self.entrypoint[0]) if self.entrypoint else ()), *words]


def job_services() -> tuple[JobService, ...]:
    """Return the services of the job of this stage.

    :raises InvalidInput: if the variable has another form.
    """
    text = os.environ.get(VARIABLE, "")
    try:
        return tuple(_service(item) for item in (json.loads(text) if text else None) or ())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidInput(
            "the services of the job cannot be read.",
            name=VARIABLE.removeprefix(PREFIX),
            cause=str(error),
        ) from error


def _service(item: Any) -> JobService:
    service = JobService(
        str(item["name"]),
        str(item.get("alias") or ""),
        tuple(map(str, item.get("entrypoint") or ())),
        tuple(map(str, item.get("command") or ())),
        {str(name): str(value) for name, value in (item.get("variables") or {}).items()},
    )
    if not service.image or service.image.startswith("-"):
        raise ValueError(f"{service.image!r} is no image")
    for name in service.names:
        if not _ALIAS.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a service")
    return service


def job_variables(response: Mapping[str, Any]) -> dict[str, str]:
    """Return the public variables of a job, which its services get, too.

    :param response: the response of GitLab about the job.
    """
    items = response.get("variables")
    names = [
        str(item.get("key"))
        for item in (items if isinstance(items, list) else ())
        if isinstance(item, dict) and item.get("public") is True and not item.get("file")
    ]
    return {name: os.environ[PREFIX + name] for name in names if PREFIX + name in os.environ}


def start_script(services: Iterable[JobService], variables: Mapping[str, str]) -> str:
    """Return the script that starts services on the host of the job.

    :param variables: the variables of the job.
    """
    lines = [START]
    for number, service in enumerate(services):
        values = {
            name: value
            for name, value in {**variables, **service.variables}.items()
            if _VARIABLE.fullmatch(name)
        }
        options = [f"--env={name}={value}" for name, value in values.items()]
        names = " ".join(service.names)
        call = ("start_service", f"gitlab-service-{number}", names, *options, *service.words())
        lines.append(shlex.join(call))
    return "\n".join(lines) + "\n"
