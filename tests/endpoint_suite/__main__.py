# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run docker-py's integration tests against a bare dockerd in a host and against the endpoint.

``make endpoint-suite`` runs what has not been run yet; a run that was stopped goes on where it was.

  ARGS="1/8"                           one of eight parts
  ARGS="b_test.py a_test.py"           these files, in this order
  ARGS="--server bare"                 only one of the servers
  ARGS="--server other=unix:///path"   another server
  ARGS="--workers 2"                   run tests at two servers of a kind at once
  ARGS="--minutes 10"                  stop after this time with each server
  ARGS="--keep"                        keep outcomes of an earlier state of the SDK or the template
  ARGS="--fresh"                       discard earlier outcomes of the selected files
  ARGS="--failed"                      run tests that failed again
  ARGS="--report"                      only show the table
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from . import images, registry, servers
from .results import (
    BOUND,
    RecordStore,
    ServerResults,
    compare,
    document,
    load_differences,
    summary,
    table,
)
from .suite import CHECKOUT, DESELECTED, WORK, Suite, installed, part_of

RESULT = CHECKOUT / "build" / "endpoint-suite.json"
# The number of tests of one process, at most.
BATCH = 12
DIFFERENCES = Path(__file__).with_name("differences.yml")


def main(arguments: list[str] | None = None) -> int:
    """Run the selected tests and return 0, or 1 if the endpoint is below its bound."""
    options = parser().parse_args(arguments)
    suite = installed()
    files = suite.collect()
    store = RecordStore(WORK / "records")
    # A list that is not valid must not cost a run.
    load_differences(DIFFERENCES, [test for tests in files.values() for test in tests])
    if not options.report:
        if os.geteuid() == 0:
            raise SystemExit("libvirt's session is for ordinary users: run `make endpoint-suite`")
        run(suite, store, files, options)
    return report(store, files)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    argument_parser = argparse.ArgumentParser(
        prog="endpoint-suite",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    argument_parser.add_argument(
        "selection", nargs="*", metavar="N/M|FILE", help="a part, or files"
    )
    argument_parser.add_argument(
        "--server", action="append", metavar="NAME[=DOCKER_HOST]", help="a server"
    )
    argument_parser.add_argument(
        "--workers", type=int, default=1, help="number of servers of each kind"
    )
    argument_parser.add_argument(
        "--minutes", type=float, default=600.0, help="time limit for the tests of each server"
    )
    argument_parser.add_argument(
        "--fresh", action="store_true", help="discard outcomes of selected files"
    )
    argument_parser.add_argument(
        "--keep", action="store_true", help="keep outcomes of an earlier state of the server"
    )
    argument_parser.add_argument("--failed", action="store_true", help="discard failed outcomes")
    argument_parser.add_argument(
        "--report", action="store_true", help="show results, and run nothing"
    )
    return argument_parser


def run(
    suite: Suite,
    store: RecordStore,
    files: dict[str, list[str]],
    options: argparse.Namespace,
) -> None:
    """Run the selected tests that have no outcome yet on each selected server."""
    selected = {file: files[file] for file in select(files, options.selection)}
    names = options.server or default_servers()
    with ExitStack() as stack:
        port = stack.enter_context(registry.serving(WORK / "root/usr/bin/docker-registry", WORK))
        images.publish(f"http://127.0.0.1:{port}", WORK / "root/bin/busybox")
        for name in names:
            with serve(name, port, options.workers) as group:
                deadline = time.time() + options.minutes * 60
                measure(
                    suite,
                    store,
                    group,
                    selected,
                    deadline,
                    fresh=options.fresh,
                    failed=options.failed,
                    keep=options.keep,
                )


def serve(
    name: str, registry_port: int, count: int = 1
) -> AbstractContextManager[list[servers.Server]]:
    """Return the context of equal servers of this name.

    :param count: their number. A server that runs already is the only one.
    """
    label, separator, docker_host = name.partition("=")
    if separator:
        return servers.given(label, docker_host)
    if label == "bare":
        return servers.bare(WORK, registry_port, count)
    if label == "endpoint":
        return servers.endpoint(WORK, registry_port, count)
    raise SystemExit(f"server {label} has no DOCKER_HOST: write {label}=unix:///path")


def default_servers() -> list[str]:
    """Return the servers that this checkout has."""
    return ["bare", "endpoint"] if servers.endpoint_exists() else ["bare"]


def select(files: dict[str, list[str]], selection: list[str]) -> list[str]:
    """Return the selected files in the order of the selection; all of them without one."""
    if not selection:
        return sorted(files)
    chosen: list[str] = []
    for word in selection:
        if part := re.fullmatch(r"([1-9][0-9]*)/([1-9][0-9]*)", word):
            number, count = int(part[1]), int(part[2])
            if number > count:
                raise SystemExit(f"part {word} does not exist")
            chosen += part_of(files, number, count)
        elif word in files:
            chosen.append(word)
        else:
            raise SystemExit(f"{word} is neither a part nor one of {', '.join(sorted(files))}")
    return list(dict.fromkeys(chosen))


def measure(
    suite: Suite,
    store: RecordStore,
    group: list[servers.Server],
    files: dict[str, list[str]],
    deadline: float,
    *,
    fresh: bool = False,
    failed: bool = False,
    keep: bool = False,
) -> None:
    """Run the tests without an outcome on equal servers, each batch of a file in a process."""
    commit = os.environ.get("STOCKYARD_COMMIT", "")
    server = group[0]
    head = ServerResults(server.identity, server.facts(), commit)
    selected = {test for tests in files.values() for test in tests}
    discarded = selected if fresh else set()
    if failed and (earlier := store.load(server.name)):
        discarded = discarded | (selected & earlier.having("failed"))
    store.begin(server.name, head, discarded, keep=keep)
    pending = {file: pending_tests(store, server.name, tests) for file, tests in files.items()}
    batches = deque(
        (file, tests[start : start + BATCH])
        for file, tests in pending.items()
        for start in range(0, len(tests), BATCH)
    )
    with ThreadPoolExecutor(len(group)) as pool:
        futures = [pool.submit(work, suite, store, server, batches, deadline) for server in group]
    for future in futures:
        future.result()


def work(
    suite: Suite,
    store: RecordStore,
    server: servers.Server,
    batches: deque[tuple[str, list[str]]],
    deadline: float,
) -> None:
    """Run batches of tests on one server until none is left or the time is up."""
    while batches:
        try:
            file, tests = batches.popleft()
        except IndexError:
            return
        if not run_batch(suite, store, server, file, tests, deadline):
            print(f"{server.name}: the time is up before {file} ends", flush=True)
            return


def run_batch(
    suite: Suite,
    store: RecordStore,
    server: servers.Server,
    file: str,
    tests: list[str],
    deadline: float,
) -> bool:
    """Run tests of one file until each has an outcome, and return False if the time is up."""
    while pending := pending_tests(store, server.name, tests):
        if time.time() > deadline:
            return False
        server.check()
        begin = time.monotonic()
        record = store.path(server.name)
        completed = suite.run(file, pending, server.docker_host, record, deadline)
        server.clean()
        remaining = pending_tests(store, server.name, tests)
        ended, seconds = len(pending) - len(remaining), time.monotonic() - begin
        print(
            f"{server.name}: {file}: {ended} of {len(pending)} tests in {seconds:.0f} s",
            flush=True,
        )
        stuck = remaining == pending and time.time() <= deadline
        if remaining and (stuck or not completed):
            store.append(server.name, remaining[0], "failed", "the process ended in this test")
    return True


def pending_tests(store: RecordStore, server: str, tests: list[str]) -> list[str]:
    """Return the tests that have no outcome yet."""
    results = store.load(server)
    completed = results.tests if results else {}
    return [test for test in tests if test not in completed]


def report(store: RecordStore, files: dict[str, list[str]]) -> int:
    """Write the file of results, show the table, and return 1 if the endpoint misses its bound."""
    tests = [test for names in files.values() for test in names]
    differences = load_differences(DIFFERENCES, tests)
    results = store.all()
    head = {
        "suite": "docker-py 7.0.0",
        "selection": DESELECTED,
        "commit": os.environ.get("STOCKYARD_COMMIT", ""),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "tests": len(tests),
    }
    RESULT.write_text(json.dumps(document(results, differences, head), indent=1), encoding="utf-8")
    print("\n".join(table(results, len(tests))))
    bare, endpoint = results.get("bare"), results.get("endpoint")
    for name, of_server in results.items():
        if bare and name != "bare":
            print("\n".join(summary(name, compare(bare, of_server, differences))))
    print(f"every outcome: {RESULT}")
    if not bare or not endpoint:
        return 0
    comparison = compare(bare, endpoint, differences)
    return int(not comparison.missing and comparison.ratio < BOUND)


if __name__ == "__main__":
    sys.exit(main())
