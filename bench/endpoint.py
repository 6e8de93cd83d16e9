# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``docker run --rm`` of a warm image at an endpoint, phase by phase, compared with a fork and the
same run in a ready host; several runs at once; the cost of ``exec`` and of ``ps``; the private RAM
of idle machines.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from stockyard import EndpointSpec, SingleSpec, Yard
from stockyard.endpoint.container_calls import ContainerCalls
from stockyard.endpoint.images import ImageHost
from stockyard.endpoint.machine_life import MachineLife
from stockyard.endpoint.server import Endpoint
from stockyard.endpoint.yard_machines import YardMachines

from .book import Book, seconds
from .docker_run import FIRST_BYTE, REMOVED, Connect, Run, call, execute, mutual_tls, run, unix
from .options import Options
from .real import IMAGE, TEMPLATE, opened, private_mib
from .spans import PHASES, Phase, watching

NAME, IMAGES, READY, FORK = "bench", "images", "ready", "fork"
# The runtime that docs/endpoint.md recommends.
CRUN = replace(TEMPLATE, name="bench-crun", image=replace(TEMPLATE.image, runtime="crun"))
WHOLE = "endpoint: docker run until the first byte"
AGAIN = "endpoint: the next docker run after the former, until the first byte"
BARE, FORKED = "ready host: docker run until the first byte", "fork: Docker over mutual TLS"
FRESH = "fork: its first docker run, until the first byte"
SPARE = "endpoint with a spare: docker run until the first byte"
SUM = "endpoint / (fork + its first run)"
SUM_LATER = "endpoint / (fork + a later run in another host)"
SUM_SPARE = "endpoint with a spare / (fork + a later run in another host)"
SERIES, PARALLEL, BOTH = "ten runs, one after the other", "ten runs at once", "at once / in series"
EXEC, DIRECT, ADDED = "exec through the endpoint", "exec by Docker's own call", "exec: added"
LONGEST, RATIO, PARALLEL_RATIO = 4.0, 1.2, 0.9
LONGEST_EXEC, LONGEST_LIST, LARGEST_IDLE = 0.015, 0.3, 45.0
RUNS, EXECS, MANY = 10, 15, 30
# Seconds until a deleted machine, or a new one, does no more work.
PAUSE, IDLE = 4.0, 20.0
ANSWER = "TLS and Docker"
CALLS: tuple[Phase, ...] = (
    (ImageHost, "check_exists", "endpoint: the image exists"),
    (ImageHost, "ensure_generation", "endpoint: image generation"),
    (MachineLife, "adopt", "endpoint: watch the machine"),
    (ContainerCalls, "_create_in", "endpoint: create passed to Docker"),
)


def measure(book: Book, options: Options) -> None:
    """Measure runs at the endpoint, forks and runs in a ready host alternately."""
    with opened(options.work) as (yard, _template):
        yard.templates.apply(CRUN)
        ready = yard.hosts.apply(SingleSpec(READY, CRUN.name)).object
        spec = EndpointSpec(NAME, IMAGES, CRUN.name, socket="/run/not-served.sock")
        yard.endpoints.apply(spec)
        bare = mutual_tls(ready)
        with serving(yard, spec) as connect:
            run(bare, IMAGE, "sh", "-c", "echo hi")
            book.note("endpoint: first run, with a branch", "s", _first_byte(connect))
            timelines = [
                _sample(book, yard, connect, bare) for _sample_no in range(options.samples)
            ]
            middle = sorted(timelines)[len(timelines) // 2][1]
            book.timeline("docker run", middle)
            _ratio(book)
            for network in ("none", "host"):
                time.sleep(PAUSE)
                for side, line in (("endpoint", connect), ("ready host", bare)):
                    name = f"{side}: the same with --network {network}"
                    book.note(name, "s", _first_byte(line, network))
            with book.attempt("ten runs"):
                _at_once(book, connect)
            with book.attempt("exec and ps"):
                _many(book, yard, connect, MANY if options.full else 3)
        with serving(yard, spec, spares=1) as connect, book.attempt("spares"):
            _with_spares(book, yard, connect, options.samples)
        yard.endpoints.delete(NAME)


@contextmanager
def serving(yard: Yard, spec: EndpointSpec, spares: int = 0) -> Iterator[Connect]:
    """Serve an endpoint in a thread."""
    loop = asyncio.new_event_loop()
    machines = YardMachines(yard.context, spec.tenant, spec.name, spec.image_host)
    endpoint = Endpoint(machines, lambda line: print(f"endpoint: {line}", flush=True), spares)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder, "endpoint.sock")

        async def start() -> asyncio.Server:
            await endpoint.start()
            return await endpoint.listen(socket)

        async def close() -> None:
            server.close()
            await endpoint.close()

        server = asyncio.run_coroutine_threadsafe(start(), loop).result()
        try:
            yield unix(socket)
        finally:
            asyncio.run_coroutine_threadsafe(close(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


def _sample(
    book: Book, yard: Yard, connect: Connect, bare: Connect
) -> tuple[float, list[tuple[str, float, float]]]:
    """Measure a fork, a run in a ready host, and a run at the endpoint; return the time and the
    timeline of the last one.
    """
    time.sleep(PAUSE)
    with watching() as spans:
        fork = yard.hosts.apply(SingleSpec(FORK, CRUN.name)).object
    book.note(FORKED, "s", spans.end_of(ANSWER))
    book.note(FRESH, "s", _first_byte(mutual_tls(fork)))
    yard.hosts.delete(FORK)
    time.sleep(1.0)
    _note_phases(book, "ready host", run(bare, IMAGE, "sh", "-c", "echo hi"))
    time.sleep(PAUSE)
    with watching((*PHASES, *CALLS)) as spans:
        measured = run(connect, IMAGE, "sh", "-c", "echo hi")
    book.note(AGAIN, "s", _first_byte(connect))
    _note_phases(book, "endpoint", measured)
    shift = measured.begin - spans.begin
    timeline = [(label, begin - shift, end - shift) for label, begin, end in spans.found]
    timeline = [span for span in timeline if span[1] <= measured.ends[REMOVED]]
    for label in dict.fromkeys(label for label, _begin, _end in timeline):
        duration = sum(end - begin for name, begin, end in timeline if name == label)
        book.note(f"phase: {label}", "s", duration)
    return measured.ends[FIRST_BYTE], [*measured.spans(), *timeline]


def _with_spares(book: Book, yard: Yard, connect: Connect, samples: int) -> None:
    """Measure runs, each of which finds a spare."""
    for _sample_no in range(samples):
        _wait_for_spare(yard)
        time.sleep(PAUSE)
        measured = run(connect, IMAGE, "sh", "-c", "echo hi")
        book.note(SPARE, "s", measured.ends[FIRST_BYTE], most=LONGEST)
        for label, begin, end in measured.spans():
            book.note(f"with a spare: {label}", "s", end - begin)
    figures = book.figures
    both = figures[FORKED].median + figures[BARE].median
    book.note(SUM_SPARE, "", figures[SPARE].median / both, most=RATIO)
    begin = time.monotonic()
    for _run in range(RUNS):
        _first_byte(connect)
    book.note(f"{SERIES}, with a spare", "s", seconds(begin))


def _wait_for_spare(yard: Yard) -> None:
    while not any("stockyard.endpoint" in host.labels for host in yard.hosts.list()):
        time.sleep(0.5)


def _note_phases(book: Book, side: str, measured: Run) -> None:
    name = WHOLE if side == "endpoint" else BARE
    book.note(name, "s", measured.ends[FIRST_BYTE])
    for label, begin, end in measured.spans():
        book.note(f"{side}: {label}", "s", end - begin)


def _first_byte(connect: Connect, network: str = "default") -> float:
    return run(connect, IMAGE, "sh", "-c", "echo hi", network=network).ends[FIRST_BYTE]


def _ratio(book: Book) -> None:
    """Compare a run at the endpoint with a fork and the same run in it; and in a host that has run
    the container before, so that the emulator has translated the code.
    """
    figures = book.figures
    fork = figures[FORKED].median
    book.note(SUM, "", figures[WHOLE].median / (fork + figures[FRESH].median), most=RATIO)
    book.note(SUM_LATER, "", figures[WHOLE].median / (fork + figures[BARE].median))


def _at_once(book: Book, connect: Connect) -> None:
    time.sleep(PAUSE)
    begin = time.monotonic()
    for _run in range(RUNS):
        _first_byte(connect)
    book.note(SERIES, "s", seconds(begin))
    time.sleep(PAUSE)
    begin = time.monotonic()
    with ThreadPoolExecutor(RUNS) as pool:
        for future in [pool.submit(_first_byte, connect) for _run in range(RUNS)]:
            future.result()
    book.note(PARALLEL, "s", seconds(begin))
    book.ratio(PARALLEL, SERIES, most=PARALLEL_RATIO, name=BOTH)


def _many(book: Book, yard: Yard, connect: Connect, count: int) -> None:
    """Measure ``exec``, ``ps`` and the memory of several machines."""
    with contextlib.closing(connect()) as line:
        config = {"Image": IMAGE, "Cmd": ["sleep", "100000"]}
        containers = []
        for _number in range(count):
            containers.append(str(call(line, "POST", "/containers/create", config)["Id"]))
            call(line, "POST", f"/containers/{containers[-1]}/start")
        time.sleep(IDLE)
        hosts = [host for host in yard.hosts.list() if "stockyard.endpoint" in host.labels]
        memory = [private_mib(yard, host) for host in hosts]
        book.note(f"private RAM of {count} idle machines", "MiB", *memory, most=LARGEST_IDLE)
        for _number in range(EXECS):
            begin = time.monotonic()
            listed = call(line, "GET", "/containers/json")
            most = LONGEST_LIST if count == MANY else None
            book.note(f"ps of {count} containers", "s", seconds(begin), most=most)
            if len(listed) != count:
                raise ConnectionError(f"ps shows {len(listed)} of {count} containers")
        _exec(book, yard, connect, containers[0])
        for container in containers:
            call(line, "DELETE", f"/containers/{container}?force=1")


def _exec(book: Book, yard: Yard, connect: Connect, container: str) -> None:
    """Measure programs in one container, through the endpoint and by its Docker's own API."""
    for host in yard.hosts.list():
        if "stockyard.endpoint" not in host.labels:
            continue
        direct = mutual_tls(host)
        with contextlib.closing(direct()) as docker, contextlib.closing(connect()) as line:
            present = call(docker, "GET", "/containers/json")
            if container not in [entry["Id"] for entry in present]:
                continue
            for _number in range(EXECS):
                book.note(EXEC, "s", execute(line, connect, container, "true"))
                book.note(DIRECT, "s", execute(docker, direct, container, "true"))
            figures = book.figures
            added = figures[EXEC].median - figures[DIRECT].median
            book.note(ADDED, "s", added, most=LONGEST_EXEC)
