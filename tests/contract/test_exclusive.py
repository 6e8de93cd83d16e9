# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that are held: by one at a time, for as long as the holder lives."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator

import pytest

from stockyard.clock import Deadline
from stockyard.errors import Busy
from stockyard.hypervisor.provider import Provider
from tests.contract.bench import Bench

# A separate controller: it locks a name, reports that, and releases it only by its death.
HOLDER = """
import sys, time
from stockyard.clock import Deadline
from stockyard.providers.open import open_provider
with open_provider(sys.argv[1], sys.argv[2] or None).exclusive(sys.argv[3], Deadline(10)):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def name() -> str:
    """A name without a holder."""
    return f"contract.default.fleet.{uuid.uuid4().hex}"


@pytest.fixture
def holder(bench: Bench, name: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the name."""
    argv = [sys.executable, "-c", HOLDER, bench.uri, bench.storage or "", name]
    environment = {**os.environ, **getattr(bench, "environment", {})}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_one_holds_a_name(provider: Provider, second: Provider, name: str) -> None:
    with provider.exclusive(name, Deadline(1)):
        begin = time.monotonic()
        with pytest.raises(Busy), second.exclusive(name, Deadline(0.2)):
            pytest.fail("two hold one name")
        assert 0.2 <= time.monotonic() - begin < 2
    with second.exclusive(name, Deadline(1)):
        pass


def test_no_time_at_all_is_time_for_a_free_name(provider: Provider, name: str) -> None:
    with provider.exclusive(name, Deadline(0)):
        pass


def test_other_names_are_free(provider: Provider, second: Provider, name: str) -> None:
    with provider.exclusive(name, Deadline(1)), second.exclusive(name + "-x", Deadline(0)):
        pass


def test_two_long_names_are_two(provider: Provider, second: Provider, name: str) -> None:
    long = name + "x" * 200
    with (
        provider.exclusive(long, Deadline(1)),
        second.exclusive(long + "y", Deadline(0)),
        pytest.raises(Busy),
        second.exclusive(long, Deadline(0)),
    ):
        pytest.fail("two hold one name")


def test_lock_is_free_after_an_error(provider: Provider, second: Provider, name: str) -> None:
    with pytest.raises(ZeroDivisionError), provider.exclusive(name, Deadline(1)):
        raise ZeroDivisionError
    with second.exclusive(name, Deadline(0)):
        pass


def test_waiter_gets_the_lock(provider: Provider, second: Provider, name: str) -> None:
    got = threading.Event()

    def wait() -> None:
        with second.exclusive(name, Deadline(10)):
            got.set()

    with provider.exclusive(name, Deadline(1)):
        waiter = threading.Thread(target=wait)
        waiter.start()
        assert not got.wait(0.2)
    assert got.wait(5)
    waiter.join()


def test_never_two_at_once(provider: Provider, second: Provider, name: str) -> None:
    inside, worst = 0, 0

    def work(connection: Provider) -> None:
        nonlocal inside, worst
        for _try in range(10):
            with connection.exclusive(name, Deadline(30)):
                inside += 1
                worst = max(worst, inside)
                time.sleep(0.001)
                inside -= 1

    threads = [
        threading.Thread(target=work, args=(p,)) for p in (provider, second, provider, second)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worst == 1


def test_lock_of_another_process_is_held(
    provider: Provider, holder: subprocess.Popen[str], name: str
) -> None:
    with pytest.raises(Busy), provider.exclusive(name, Deadline(0.2)):
        pytest.fail("two hold one name")


def test_killed_holder_releases_the_lock(
    provider: Provider, holder: subprocess.Popen[str], name: str
) -> None:
    holder.kill()
    with provider.exclusive(name, Deadline(5)):
        pass
