# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Queues: requests of several controllers wait in the order of their arrival."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import pytest

from stockyard.clock import Deadline
from stockyard.hypervisor.provider import Provider
from tests.contract.bench import Bench

# A separate controller: it waits in a queue, reports that, and leaves it only by its death.
WAITING = """
import sys, time
from stockyard.clock import Deadline
from stockyard.providers.open import open_provider
provider = open_provider(sys.argv[1], sys.argv[2] or None)
with provider.queues.join(sys.argv[3], Deadline(float(sys.argv[4]))):
    print("waits", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def name() -> str:
    """An empty queue."""
    return f"contract.queue.{uuid.uuid4().hex[:24]}"


def waiting_process(bench: Bench, name: str, seconds: float) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", WAITING, bench.uri, bench.storage or "", name, str(seconds)]
    environment = {**os.environ, **getattr(bench, "environment", {})}
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "waits\n"
    return process


@pytest.fixture
def waiting_request(bench: Bench, name: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that waits in the queue for at most a minute."""
    with waiting_process(bench, name, 60) as process:
        try:
            yield process
        finally:
            process.kill()


def test_requests_have_the_order_of_their_arrival(
    provider: Provider, second: Provider, name: str
) -> None:
    assert provider.queues.length(name, time.time()) == 0
    with provider.queues.join(name, Deadline(60)) as first_ticket:
        with (
            second.queues.join(name, Deadline(60)) as second_ticket,
            provider.queues.join(name, Deadline(60)) as third_ticket,
        ):
            tickets = (first_ticket, second_ticket, third_ticket)
            assert [ticket.ahead() for ticket in tickets] == [0, 1, 2]
            assert second.queues.length(name, time.time()) == 3
        with second.queues.join(name, Deadline(60)) as last_ticket:
            assert (first_ticket.ahead(), last_ticket.ahead()) == (0, 1)
    assert second.queues.length(name, time.time()) == 0


def test_request_that_leaves_first_lets_the_next_one_pass(
    provider: Provider, second: Provider, name: str
) -> None:
    first = provider.queues.join(name, Deadline(60))
    first.__enter__()
    with (
        second.queues.join(name, Deadline(60)) as ticket,
        provider.queues.join(name + "x", Deadline(60)) as ticket_elsewhere,
    ):
        assert (ticket.ahead(), ticket_elsewhere.ahead()) == (1, 0)
        first.__exit__(None, None, None)
        assert ticket.ahead() == 0


def test_killed_request_does_not_block_the_queue(
    provider: Provider, waiting_request: subprocess.Popen[str], name: str
) -> None:
    with provider.queues.join(name, Deadline(60)) as ticket:
        assert ticket.ahead() == 1
        waiting_request.kill()
        waiting_request.wait()
        assert ticket.ahead() == 0
        assert provider.queues.length(name, time.time()) == 1


def test_stopped_request_blocks_the_queue_only_until_its_deadline(
    provider: Provider, bench: Bench, name: str
) -> None:
    with waiting_process(bench, name, 2.0) as stopped:
        try:
            stopped.send_signal(signal.SIGSTOP)
            with provider.queues.join(name, Deadline(60)) as ticket:
                assert ticket.ahead() == 1
                time.sleep(2.2)
                assert ticket.ahead() == 0
        finally:
            stopped.kill()
