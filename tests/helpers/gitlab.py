# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for GitLab on the loopback: the API that its runner uses, and a Git repository."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "glrt-of-the-test"
RUNNING, SUCCESS, FAILED = "running", "success", "failed"
FEATURES = {
    "trace_sections": True,
    "failure_reasons": ["script_failure", "runner_system_failure", "job_canceled"],
}
_TIME = re.compile(r"^\S+Z \d\d[OE][ +]?", re.MULTILINE)
_JOB = re.compile(r"/api/v4/jobs/(\d+)(/trace|/artifacts|)(?:\?.*)?")
_REPOSITORY = re.compile(r"/group/project-\d+\.git/([\w./-]+)(?:\?.*)?")


@dataclass
class Job:
    """A job and its outcome.

    :param script: the lines of its script.
    :param artifacts: the paths to upload.
    :param needs: the jobs whose artifacts it downloads.
    :param options: more fields of the response to the runner, such as ``image``.
    :param state: the state, empty before a runner takes the job.
    :param remote_state: the state that the runner learns: ``canceling`` or ``canceled``.
    """

    id: int
    script: tuple[str, ...]
    artifacts: tuple[str, ...] = ()
    needs: tuple[Job, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    state: str = ""
    remote_state: str = RUNNING
    failure_reason: str = ""
    exit_code: int = 0
    trace: bytes = b""
    archive: bytes = b""

    @property
    def text(self) -> str:
        """Return the output of the job, without the times of the lines."""
        return _TIME.sub("", self.trace.decode(errors="replace"))

    @property
    def ended(self) -> bool:
        """Return whether the runner has reported the end of the job."""
        return self.state in (SUCCESS, FAILED)

    @property
    def token(self) -> str:
        """Return the token with which the runner reports about the job."""
        return f"token-of-{self.id}"


@dataclass
class GitLab:
    """A GitLab with one repository, which all projects share.

    :param folder: the directory of the repository.
    :param time_limit: the time limit of the jobs, in seconds.
    :param port: the port of the server, by default a free one.
    :param site: the address by which clients know GitLab if they use the server as their proxy.
    """

    folder: Path
    time_limit: int = 600
    port: int = 0
    site: str = ""
    jobs: dict[int, Job] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.revision = _create_repository(self.folder)
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.gitlab = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def url(self) -> str:
        """Return the address of GitLab."""
        return self.site or f"http://127.0.0.1:{self._server.server_port}"

    def add(
        self,
        *script: str,
        artifacts: Sequence[str] = (),
        needs: Sequence[Job] = (),
        **options: object,
    ) -> Job:
        """Add a job for the next runner that requests one."""
        with self.lock:
            job = Job(len(self.jobs) + 4711, script, tuple(artifacts), tuple(needs), options)
            self.jobs[job.id] = job
        return job

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self) -> Job | None:
        """Return the next job, which runs from now on."""
        with self.lock:
            job = next((job for job in self.jobs.values() if not job.state), None)
            if job is not None:
                job.state = RUNNING
            return job

    def describe(self, job: Job) -> dict[str, Any]:
        """Return the response about a job that a runner takes."""
        project = f"{self.url}/group/project-{job.id}"
        variables = {"CI_JOB_ID": str(job.id), "CI_PROJECT_URL": project}
        artifacts = {"paths": job.artifacts, "when": "on_success", "artifact_type": "archive"}
        return {
            "id": job.id,
            "token": job.token,
            "allow_git_fetch": True,
            "job_info": {"name": f"job {job.id}", "stage": "test", "project_id": job.id},
            "git_info": {
                "repo_url": f"{project}.git",
                "ref": "main",
                "sha": self.revision,
                "before_sha": "0" * 40,
                "ref_type": "branch",
                "refspecs": ["+refs/heads/main:refs/remotes/origin/main"],
                "depth": 0,
            },
            "runner_info": {"timeout": self.time_limit},
            "variables": [{"key": key, "value": value} for key, value in variables.items()],
            "steps": [
                {"name": "script", "script": job.script, "timeout": 600, "when": "on_success"}
            ],
            "artifacts": [artifacts | {"artifact_format": "zip"}] if job.artifacts else [],
            "dependencies": [
                {
                    "id": need.id,
                    "token": job.token,
                    "name": f"job {need.id}",
                    "artifacts_file": {"filename": "artifacts.zip", "size": len(need.archive)},
                }
                for need in job.needs
            ],
            "features": FEATURES,
            **job.options,
        }


def _create_repository(folder: Path) -> str:
    """Create a repository that any web server can serve, and return its revision."""
    work = folder / "work"
    work.mkdir(parents=True)
    (work / "input").write_text("contents\n")
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.invalid")
    for arguments in (
        ("init", "-q", "-b", "main"),
        ("add", "input"),
        (*identity, "commit", "-q", "-m", "input: Add it"),
        ("update-server-info",),
    ):
        subprocess.run(["git", *arguments], cwd=work, check=True)
    command = ("git", "rev-parse", "HEAD")
    return subprocess.run(
        command, cwd=work, check=True, capture_output=True, text=True
    ).stdout.strip()


class _Server(ThreadingHTTPServer):
    gitlab: GitLab
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    @property
    def gitlab(self) -> GitLab:
        """Return the GitLab that answers."""
        return self.server.gitlab

    def parse_request(self) -> bool:
        """Accept the request of a client that uses the server as its proxy, too."""
        valid = super().parse_request()
        if valid and self.gitlab.site:
            self.path = self.path.removeprefix(self.gitlab.site)
        return valid

    def do_GET(self) -> None:
        if match := _REPOSITORY.fullmatch(self.path):
            path = self.gitlab.folder / "work" / ".git" / match[1]
            if ".." not in match[1] and path.is_file():
                self._answer(200, path.read_bytes())
            else:
                self._answer(404)
        elif (job := self._job("/artifacts")) and job.archive:
            self._answer(200, job.archive)
        else:
            self._answer(404)

    def do_POST(self) -> None:
        body = self._body()
        if self.path == "/api/v4/runners/verify":
            self._json(200, {"id": 1, "token": TOKEN})
        elif self.path == "/api/v4/jobs/request":
            if json.loads(body)["token"] != TOKEN:
                self._answer(403)
            elif job := self.gitlab.take():
                self._json(201, self.gitlab.describe(job))
            else:
                # The runner asks again at once.
                time.sleep(0.2)
                self._answer(204)
        elif job := self._job("/artifacts"):
            job.archive = self._form_file(body)
            self._json(201, {})
        else:
            self._answer(404)

    def do_PATCH(self) -> None:
        body = self._body()
        job = self._job("/trace")
        if job is None:
            self._answer(404)
            return
        start = int(self.headers["Content-Range"].partition("-")[0])
        accepted = start == len(job.trace)
        if accepted:
            job.trace += body
        self._answer(202 if accepted else 416, b"", self._state(job))

    def do_PUT(self) -> None:
        report = json.loads(self._body())
        job = self._job("")
        if job is None:
            self._answer(404)
            return
        headers = self._state(job)
        if not job.ended:
            job.failure_reason = report.get("failure_reason", "")
            job.exit_code = report.get("exit_code", 0)
            job.state = report["state"]
        self._answer(200, b"", headers)

    def log_message(self, *_arguments: object) -> None:
        """Print nothing."""

    def _job(self, part: str) -> Job | None:
        match = _JOB.fullmatch(self.path)
        job = self.gitlab.jobs.get(int(match[1])) if match and match[2] == part else None
        tokens = {needing.token for needing in self.gitlab.jobs.values()}
        return job if self.headers.get("JOB-TOKEN") in tokens else None

    def _state(self, job: Job) -> dict[str, str]:
        return {
            "Job-Status": job.remote_state,
            "Range": f"0-{len(job.trace)}",
            "X-GitLab-Trace-Update-Interval": "1",
        }

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _form_file(self, body: bytes) -> bytes:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        (part,) = BytesParser(policy=HTTP).parsebytes(head + body).iter_parts()
        return bytes(part.get_payload(decode=True))

    def _json(self, code: int, value: object) -> None:
        self._answer(code, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, code: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if code != 204:
            self.send_header("Content-Length", str(len(body)))
        # A runner that ends does not wait for the answer.
        with contextlib.suppress(BrokenPipeError):
            self.end_headers()
            self.wfile.write(body)
