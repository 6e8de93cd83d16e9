# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The requests that a daemon answers: the page, the metrics, its health, and leases."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from ..errors import (
    Busy,
    Conflict,
    HypervisorError,
    InvalidInput,
    LeaseExpired,
    NotFound,
    OperationRefused,
    StockyardError,
)
from ..model import untrusted
from ..model.lease import is_issued
from ..resources.context import Context
from ..views.html import page
from ..views.metrics import metrics
from ..views.snapshot import Snapshot, take_snapshot
from . import projects
from .http_server import (
    BadRequest,
    HttpAnswer,
    HttpRequest,
    answer_error,
    answer_json,
    answer_refusal,
)
from .lease_calls import Fields, LeaseCalls
from .projects import Project
from .status import Status
from .stoppable_clock import Stopped

T = TypeVar("T")
LEASES = "/v1/leases"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]", "::1")
# Seconds for which one observation serves all readers of the page and the metrics.
SNAPSHOT_AGE = 1.0
# The most requests of one project at one time: others find a free connection.
MOST_OF_PROJECT = 128
# Statuses of errors, the most specific class first.
STATUSES: tuple[tuple[type[StockyardError], HTTPStatus], ...] = (
    (LeaseExpired, HTTPStatus.GONE),
    (Busy, HTTPStatus.CONFLICT),
    (InvalidInput, HTTPStatus.BAD_REQUEST),
    (OperationRefused, HTTPStatus.FORBIDDEN),
    (NotFound, HTTPStatus.NOT_FOUND),
    (Conflict, HTTPStatus.CONFLICT),
    (HypervisorError, HTTPStatus.SERVICE_UNAVAILABLE),
    (Stopped, HTTPStatus.SERVICE_UNAVAILABLE),
)


class Requests:
    """The answers of a daemon.

    :param context: returns the context of the yard, on the present connection.
    :param tokens: the file of projects; ``None`` if no project can lease hosts.
    :param wake: starts the next pass over the yard.
    """

    def __init__(
        self,
        context: Callable[[], Context],
        tokens: Path | None,
        status: Status,
        stop: threading.Event,
        wake: Callable[[], None],
    ) -> None:
        self._context = context
        self._tokens = tokens
        self._status = status
        self._stop = stop
        self._wake = wake
        self._snapshot: Snapshot | None = None
        self._snapshot_end = 0.0
        self._snapshot_lock = threading.Lock()
        self._running = 0
        self._idle = threading.Condition()
        self._of_projects: Counter[str] = Counter()

    def wait_idle(self, seconds: float) -> bool:
        """Wait until no request is at work; return whether that is so in time."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._running, seconds)

    async def answer_owner(self, request: HttpRequest) -> HttpAnswer:
        """Answer a request at the Unix socket, which only the yard's user can open."""
        return await self._answer(request, trusted=True)

    async def answer_local(self, request: HttpRequest) -> HttpAnswer:
        """Answer a request at the loopback address, which each local user can send."""
        name = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host")
        if name not in LOOPBACK_NAMES:
            # A web page can resolve its own name to this address.
            return answer_error(HTTPStatus.MISDIRECTED_REQUEST, "the host name is not local.")
        return await self._answer(request, trusted=self._tokens is None)

    async def _answer(self, request: HttpRequest, trusted: bool) -> HttpAnswer:
        return await in_thread(lambda: self._answer_counted(request, trusted))

    def _answer_counted(self, request: HttpRequest, trusted: bool) -> HttpAnswer:
        with self._idle:
            self._running += 1
        try:
            return self._answer_now(request, trusted)
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def _answer_now(self, request: HttpRequest, trusted: bool) -> HttpAnswer:
        try:
            if request.path.startswith("/v1/"):
                return self._answer_project(request)
            return self._show(request, trusted)
        except BadRequest as error:
            return answer_refusal(error)
        except StockyardError as error:
            return self._refuse(error)
        except Exception as error:  # noqa: BLE001  # the client gets an answer in any case
            self._status.report(f"a request failed: {type(error).__name__}: {error}")
            message = "the daemon could not answer; its log contains the reason."
            return answer_error(HTTPStatus.INTERNAL_SERVER_ERROR, message)

    def _show(self, request: HttpRequest, trusted: bool) -> HttpAnswer:
        if request.method != "GET":
            raise BadRequest(HTTPStatus.METHOD_NOT_ALLOWED, "the path can only be read.")
        if request.path == "/health":
            return self._health()
        if request.path not in ("/", "/metrics"):
            raise BadRequest(HTTPStatus.NOT_FOUND, "the path is not known.")
        if not trusted and not self._project(request).report:
            raise BadRequest(HTTPStatus.FORBIDDEN, "the project cannot read the report.")
        snapshot = self._current_snapshot()
        if request.path == "/":
            text = page(snapshot).encode()
            refresh = ("Refresh", "10")
            return HttpAnswer(HTTPStatus.OK, text, "text/html; charset=utf-8", (refresh,))
        text = (metrics(snapshot) + self._status.metrics()).encode()
        return HttpAnswer(HTTPStatus.OK, text, "text/plain; version=0.0.4; charset=utf-8")

    def _health(self) -> HttpAnswer:
        healthy, fields = self._status.health()
        code = HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
        return answer_json(code, fields)

    def _current_snapshot(self) -> Snapshot:
        # Readers that wait for the lock share the observation of the first one.
        with self._snapshot_lock:
            ctx = self._context()
            if self._snapshot is None or ctx.clock.monotonic() >= self._snapshot_end:
                self._snapshot = take_snapshot(ctx)
                self._snapshot_end = ctx.clock.monotonic() + SNAPSHOT_AGE
            return self._snapshot

    def _project(self, request: HttpRequest) -> Project:
        """Return the project of the token of a request. The file is read each time, so that a
        deleted project can do nothing more.

        :raises BadRequest: if the token is not valid.
        """
        kind, _blank, token = request.headers.get("authorization", "").partition(" ")
        project = None
        if self._tokens and kind.lower() == "bearer":
            try:
                project = projects.read(self._tokens).find(token.strip())
            except InvalidInput as error:
                self._status.report(f"no project can lease hosts: {error}")
                raise BadRequest(
                    HTTPStatus.SERVICE_UNAVAILABLE, "the daemon cannot read its file of projects."
                ) from error
        if project is None:
            raise BadRequest(HTTPStatus.UNAUTHORIZED, "the token is missing or not valid.")
        return project

    def _has_project(self, request: HttpRequest) -> bool:
        """Return whether the token of a request is valid."""
        with suppress(BadRequest):
            return bool(self._project(request))
        return False

    @contextmanager
    def _limited(self, project: Project) -> Iterator[None]:
        """Count a request among those of its project.

        :raises Busy: if the project has as many requests at this time as it can have.
        """
        with self._idle:
            if self._of_projects[project.name] >= MOST_OF_PROJECT:
                raise Busy(
                    f"the project has {MOST_OF_PROJECT} open requests, the most that it can have.",
                    name=f"project {project.name}",
                    remedy="try again later",
                )
            self._of_projects[project.name] += 1
        try:
            yield
        finally:
            with self._idle:
                self._of_projects[project.name] -= 1
                # The counter keeps no projects without requests.
                self._of_projects += Counter()

    def _answer_project(self, request: HttpRequest) -> HttpAnswer:
        project = self._project(request)
        with self._limited(project):
            return self._answer_calls(LeaseCalls(self._context(), project, self._stop), request)

    def _answer_calls(self, calls: LeaseCalls, request: HttpRequest) -> HttpAnswer:
        ctx = calls.ctx
        if request.path == LEASES:
            return self._answer_leases(calls, request)
        number = request.path.removeprefix(f"{LEASES}/")
        if not is_issued(number, f"{ctx.owner} {ctx.provider.site}"):
            raise BadRequest(HTTPStatus.NOT_FOUND, "the yard has no lease with this number.")
        if request.method == "GET":
            return answer_json(HTTPStatus.OK, calls.get(number))
        if request.method == "POST":
            return answer_json(HTTPStatus.OK, calls.renew(number, _fields(request.body)))
        if request.method != "DELETE":
            raise BadRequest(HTTPStatus.METHOD_NOT_ALLOWED, "use GET, POST or DELETE.")
        answer = answer_json(HTTPStatus.OK, calls.release(number))
        self._wake()
        return answer

    def _answer_leases(self, calls: LeaseCalls, request: HttpRequest) -> HttpAnswer:
        if request.method == "GET":
            return answer_json(HTTPStatus.OK, calls.list_all())
        if request.method != "POST":
            raise BadRequest(HTTPStatus.METHOD_NOT_ALLOWED, "use GET or POST.")
        with self._status.request():
            lease = calls.take(
                _fields(request.body), request.cancelled, lambda: self._has_project(request)
            )
        self._wake()
        return answer_json(HTTPStatus.CREATED, lease)

    def _refuse(self, error: StockyardError) -> HttpAnswer:
        status = next(
            (code for kind, code in STATUSES if isinstance(error, kind)),
            HTTPStatus.INTERNAL_SERVER_ERROR,
        )
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            # Causes name files and other holders: they are for the operator.
            self._status.report(f"a request failed: {error}")
        return answer_error(
            status,
            error.message,
            name=error.name,
            remedy=error.remedy,
            kind=type(error).__name__,
        )


def _fields(body: bytes) -> Fields:
    """Return the fields of a request.

    :raises InvalidInput: if the body is not a JSON object.
    """
    try:
        return untrusted.mapping(untrusted.parse(body), "the body")
    except untrusted.MalformedData as error:
        raise InvalidInput("the body is not a JSON object.", cause=str(error)) from error


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking work in a thread of its own, which does not keep the process alive."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error:
            future.set_exception(error)
        else:
            future.set_result(value)

    def run() -> None:
        try:
            outcome: tuple[Any, BaseException | None] = (work(), None)
        except BaseException as error:  # noqa: BLE001  # the caller of the future gets it
            outcome = (None, error)
        # The loop is closed if the daemon has stopped.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, daemon=True).start()
    result: T = await future
    return result
