# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands ``stockyard ci gitlab``: the stages of GitLab's custom executor, one leased host for
each job.

No stage keeps state on this machine: the number of the job is the holder of the lease, so each
stage finds the host again, and a repeated stage does nothing twice. If the runner dies, the lease
ends at the time limit of the job, and ``reap`` deletes the host.

The number is read from the response of GitLab, whose file the runner names in each stage. The
variables of a job have the same number, but the author of a pipeline can override them, and would
reach the host of another job.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, TypeGuard
from urllib.parse import urlsplit

from ..errors import InvalidInput, NotFound
from ..model.lease import LONGEST, LeaseSpec
from . import gitlab_services, say
from .command import TENANT, Argument, Command, Group, Option, Options, label, pairs
from .durations import length
from .run import run_program
from .select import select_entry, ssh_words
from .version import VERSION

if TYPE_CHECKING:
    from ..model.lease_info import LeaseInfo
    from ..yard import Yard

# The runner writes GitLab's response about the job to the file that this variable names.
RESPONSE_FILE = "JOB_RESPONSE_FILE"
# Every user of a host can write there, and it is on its disk.
BUILDS, CACHE = "/var/tmp/builds", "/var/tmp/cache"  # noqa: S108  # on a host of one job
# Seconds of a lease beyond the time limit of its job: for preparation and cleanup.
MARGIN = 900.0
# The time limit of a job that names none: GitLab's default.
TIME_LIMIT = 3600.0
# SSH ends with this code if it fails itself.
SSH_FAILED = 255
# Runs a script from standard input. The script is stored first, so that its commands cannot read
# the rest of it. A script that ends with 255 must differ from a failure of SSH.
RUN_SCRIPT = (
    'script=$(mktemp) && cat > "$script" && bash "$script" < /dev/null; code=$?; '
    'rm -f "$script"; [ "$code" -ne 255 ] || code=254; exit "$code"'
)
SELECTION = (
    Option("--fleet", "the fleet to lease from"),
    label("a label that the host must have"),
    TENANT,
)


def system_failure() -> int:
    """Return the exit code that means a failure of the system, which GitLab can repeat."""
    return _code("SYSTEM_FAILURE_EXIT_CODE", 2)


def build_failure() -> int:
    """Return the exit code that means a failure of the job's own script."""
    return _code("BUILD_FAILURE_EXIT_CODE", 1)


def _code(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and 0 < int(text) < 256 else default


def _config(options: Options) -> int:
    """Print the settings of a job."""
    for path in (options.builds_dir, options.cache_dir):
        if not path.startswith("/"):
            raise InvalidInput("the path is not absolute.", name=path, remedy="write /PATH")
    say.data(
        {
            "driver": {"name": "stockyard", "version": VERSION},
            "builds_dir": options.builds_dir,
            "cache_dir": options.cache_dir,
            "builds_dir_is_shared": False,
            "shell": "bash",
        }
    )
    return 0


def _prepare(yard: Yard, options: Options) -> int:
    job = _job()
    # A job with services that cannot be read gets no host.
    services = gitlab_services.job_services()
    result = yard.leases.ensure(_spec(job, options), renew=True, wait=length("wait", options.wait))
    if not services:
        return 0
    (lease,) = result.objects
    script = gitlab_services.start_script(services, job.variables)
    with TemporaryFile() as file:
        file.write(script.encode("utf-8", "surrogateescape"))
        file.seek(0)
        code = _run_script(yard, lease, file)
    if code:
        say.err("stockyard: the services of the job cannot be started")
        return system_failure()
    return 0


def _run(yard: Yard, options: Options) -> int:
    holder = _job().holder
    lease = next(
        (
            lease
            for lease in yard.leases.list(options.tenant, holder=holder)
            if not lease.ended and options.fleet in ("", lease.fleet)
        ),
        None,
    )
    if lease is None:
        raise NotFound("the job has no host.", name=holder, remedy="run the stage prepare first")
    with _script(options.script).open("rb") as script:
        code = _run_script(yard, lease, script)
    if code == SSH_FAILED:
        return system_failure()
    if code == 0:
        return 0
    if exit_file := os.environ.get("BUILD_EXIT_CODE_FILE"):
        # For allow_failure:exit_codes. The runner accepts a number and nothing else.
        Path(exit_file).write_text(str(code), encoding="ascii")
    return build_failure()


def _run_script(yard: Yard, lease: LeaseInfo, script: IO[bytes]) -> int:
    """Run a script on the host of a lease; return its exit code, or that of SSH."""
    entry = select_entry(yard, lease.host, lease.tenant)
    quiet = ("-T", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "ServerAliveInterval=15")
    code = run_program((*ssh_words(entry, *quiet), RUN_SCRIPT), stdin=script)
    if code == SSH_FAILED:
        say.err(f"stockyard: host {lease.host}: the connection failed")
    return code


def _cleanup(yard: Yard, options: Options) -> int:
    yard.leases.release_held(_spec(_job(), options), replace=not options.no_replace)
    return 0


def _script(path: str) -> Path:
    if not Path(path).is_file():
        raise InvalidInput("the script of the stage does not exist.", name=path)
    return Path(path)


def _spec(job: Job, options: Options) -> LeaseSpec:
    return LeaseSpec(
        job.holder,
        options.fleet,
        options.tenant,
        pairs("--label", options.label),
        min(job.time_limit + MARGIN, LONGEST),
    )


@dataclass(frozen=True)
class Job:
    """A job of GitLab.

    :param holder: the holder of its lease, the same in each stage.
    :param time_limit: in seconds.
    :param variables: the variables of the job for its services.
    """

    holder: str
    time_limit: float
    variables: dict[str, str]


def _job() -> Job:
    """Return the job of this stage.

    :raises InvalidInput: if the runner did not name a response with a job.
    """
    path = os.environ.get(RESPONSE_FILE, "")
    try:
        response = json.loads(Path(path).read_text(encoding="utf-8")) if path else None
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(
            "the response of GitLab cannot be read.", name=path, cause=str(error)
        ) from error
    number = response.get("id") if isinstance(response, dict) else None
    if not isinstance(response, dict) or not _is_number(number):
        raise InvalidInput(
            f"{RESPONSE_FILE} names no response of GitLab with the number of a job.",
            name=path,
            remedy="let GitLab's runner start the command, as executor custom",
        )
    limit = _part(response, "runner_info").get("timeout")
    if not _is_number(limit) or not 0 < limit <= LONGEST:
        limit = TIME_LIMIT
    variables = gitlab_services.job_variables(response)
    server = "gitlab"
    with suppress(ValueError):
        server = urlsplit(str(_part(response, "git_info").get("repo_url"))).hostname or server
    return Job(f"gitlab job {number} of {server}"[:100], float(limit), variables)


def _is_number(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _part(response: dict[str, Any], name: str) -> dict[str, Any]:
    part = response.get(name)
    return part if isinstance(part, dict) else {}


GITLAB = Group(
    "gitlab",
    "run the jobs of GitLab on leased hosts",
    (
        Command(
            "config",
            "print the settings of a job",
            _config,
            (
                Option("--builds-dir", "directory of the builds on the host", BUILDS),
                Option("--cache-dir", "directory of the cache on the host", CACHE),
            ),
            opens_yard=False,
        ),
        Command(
            "prepare",
            "lease a host for the job, and start its services",
            _prepare,
            (
                *SELECTION,
                Option(
                    "--wait",
                    "maximum time to wait for a host, which is created if its fleet may grow",
                    "10m",
                    metavar="DURATION",
                ),
            ),
            failure=system_failure,
        ),
        Command(
            "run",
            "run a script of the job on its host",
            _run,
            (
                *SELECTION,
                Argument("script", "SCRIPT", "the script, which GitLab's runner names"),
                Argument("stage", "STAGE", "the stage of the job", required=False),
            ),
            failure=system_failure,
        ),
        Command(
            "cleanup",
            "replace the host of the job",
            _cleanup,
            (
                *SELECTION,
                Option("--no-replace", "do not create another host in its place", flag=True),
            ),
            failure=system_failure,
        ),
    ),
)
CI = Group("ci", "run jobs of CI systems on leased hosts", (GITLAB,))
