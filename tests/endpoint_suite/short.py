# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests of docker-py that `make test` runs against the endpoint: streams, exec, archives,
networks, volumes and prune.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from .results import RecordStore, ServerResults
from .suite import CHECKOUT, TESTS, Suite, installed

# The image of most tests.
IMAGE = "alpine:3.10"
# A container or a network takes several seconds under emulation, so few of these tests create one.
SHORT_TESTS = {
    "api_container_test.py": (
        "ArchiveTest::test_copy_file_to_container",
        "ArchiveTest::test_get_file_archive_from_container",
        "AttachContainerTest::test_detach_with_arg",
        "AttachContainerTest::test_run_container_reading_socket_http",
        "LogsTest::test_logs_streaming_and_follow",
    ),
    "api_exec_test.py": (
        "ExecDemuxTest::test_exec_command_stream_demux",
        "ExecTest::test_exec_start_detached",
        "ExecTest::test_exec_start_socket",
    ),
    "api_network_test.py": (
        "TestNetworks::test_connect_with_aliases",
        "TestNetworks::test_create_check_duplicate",
        "TestNetworks::test_create_internal_networks",
        "TestNetworks::test_create_network_with_host_driver_fails",
        "TestNetworks::test_create_network_with_labels_wrong_type",
        "TestNetworks::test_inspect_network",
        "TestNetworks::test_prune_networks",
        "TestNetworks::test_remove_network",
    ),
    "api_volume_test.py": (
        "TestVolumes::test_create_volume",
        "TestVolumes::test_create_volume_invalid_driver",
        "TestVolumes::test_force_remove_volume",
        "TestVolumes::test_inspect_nonexistent_volume",
        "TestVolumes::test_inspect_volume",
        "TestVolumes::test_list_volumes",
        "TestVolumes::test_prune_volumes",
        "TestVolumes::test_remove_nonexistent_volume",
        "TestVolumes::test_remove_volume",
    ),
}
# Seconds for the tests of one file.
PATIENCE = 300.0


def prepare() -> Suite:
    """Return the suite, in its environment."""
    subprocess.run([CHECKOUT / "hack" / "endpoint_suite.sh", "--prepare"], check=True)
    return installed()


def failures(suite: Suite, file: str, docker_host: str, folder: Path) -> dict[str, str]:
    """Run the short tests of a file, and return the reason of each test that did not pass.

    :param folder: a directory for the record.
    """
    store = RecordStore(folder)
    store.begin("short", ServerResults(identity=""))
    tests = [f"{TESTS}/{file}::{name}" for name in SHORT_TESTS[file]]
    suite.run(file, tests, docker_host, store.path("short"), time.time() + PATIENCE)
    results = store.load("short")
    outcomes = results.tests if results else {}
    missing = {"outcome": "missing", "reason": "The test was not run."}
    return {
        test: str(outcome["reason"])
        for test in tests
        if (outcome := outcomes.get(test, missing))["outcome"] != "passed"
    }
