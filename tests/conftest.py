# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures, order and distribution of all tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis.configuration import set_hypothesis_home_dir
from xdist.scheduler import LoadScopeScheduling

from tests.helpers import prepare

set_hypothesis_home_dir(Path(__file__).parents[1] / "build" / "cache" / "hypothesis")
# No deadline: a loaded machine is not a bug. Failures print the line that replays them.
hypothesis.settings.register_profile("stockyard", deadline=None, print_blob=True, max_examples=50)
hypothesis.settings.load_profile("stockyard")
# Unit tests need neither guests nor the simulated vCenter, whatever their parameters are named.
LIBVIRT = re.compile(r"^tests/(?!unit/).*[\[-]libvirt[\]-]")
VSPHERE = re.compile(r"^tests/vcsim/|^tests/(?!unit/).*[\[-]vsphere[\]-]")


def _on_guests(name: str) -> bool:
    """Whether a test is on real guests, by its name: all that pytest-xdist knows of it where it
    hands tests out.
    """
    return name.startswith("tests/e2e/") or LIBVIRT.search(name) is not None


@pytest.fixture(autouse=True)
def shared_session(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hold libvirt's session together with the other process, see ``session_alone``."""
    if _real(request.node) and request.node.nodeid.startswith(prepare.APART_TESTS):
        with prepare.session():
            yield
    else:
        yield


def pytest_itemcollected(item: pytest.Item) -> None:
    """See that it is named so."""
    assert not _real(item) or _on_guests(item.nodeid), (
        f"{item.nodeid}: name it as tests on real guests are named"
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run tests without guests first, while templates are built for the others. Tests that need
    most of those run last.
    """
    items.sort(key=_needs)
    if hasattr(config, "workerinput"):
        items.sort(key=_turn)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build templates in the background if other tests can run first."""
    if not session.config.option.collectonly and not hasattr(session.config, "workerinput"):
        _prepare(
            [item.path for item in session.items if _real(item)],
            [item.nodeid for item in session.items],
        )


class Together(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """Tests on real guests share them, and so one process; the others do the rest. Of an own make,
    since the names that ``--dist=loadgroup`` gives are lost on pytest 9.2.

    Tests in a yard and a storage that no other test uses are a scope that the other process runs.
    """

    def _split_scope(self, nodeid: str) -> str:
        if not _on_guests(nodeid):
            return nodeid
        return "apart" if nodeid.startswith(prepare.APART_TESTS) else "guests"


class Distribution:
    """The hooks of pytest-xdist, which may be missing."""

    def __init__(self) -> None:
        self.begun = False

    @pytest.hookimpl
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Together:
        """Return the scheduler, which distributes the tests in the order of their collection."""
        config.option.loadscopereorder = False
        return Together(config, log)

    @pytest.hookimpl
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """Each process tells what there is; after that tests are handed out."""
        if not self.begun:
            self.begun = True
            real = [name.partition("::")[0] for name in ids if _on_guests(name)]
            _prepare([prepare.CHECKOUT / name for name in real], ids)


def pytest_configure(config: pytest.Config) -> None:
    """Only in the process that hands tests out."""
    if config.pluginmanager.hasplugin("xdist") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Distribution())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave nothing running."""
    if not hasattr(session.config, "workerinput"):
        prepare.stop()


def _needs(item: pytest.Item) -> int:
    """How much has to be built before a test: nothing, the simulated vCenter; or what all guests
    share, a template of its own, everything.
    """
    if not _real(item):
        return 1 if VSPHERE.search(item.nodeid) else 0
    if item.nodeid.startswith(prepare.APART_TESTS):
        return 5
    if "nothing_is_built" in getattr(item, "fixturenames", ()):
        return 4
    return 3 if hasattr(getattr(item, "module", None), "PREPARED") else 2


def _turn(item: pytest.Item) -> int:
    """Return the rank of a test when two processes share the work. One process begins with the
    shared guests; the other one runs its real tests when their template exists. Short tests are
    last, so that both processes end at the same time.
    """
    if not _real(item):
        return 3 if VSPHERE.search(item.nodeid) else 1
    return 2 if item.nodeid.startswith(prepare.APART_TESTS) else 0


def _prepare(real: list[Path], names: list[str]) -> None:
    """Begin with what some of the tests need, and not all."""
    if 0 < sum(bool(VSPHERE.search(name)) for name in names) < len(names):
        prepare.simulator()
    if 0 < len(real) < len(names):
        prepare.start(dict.fromkeys(real))
        if any(path.name == "test_endpoint.py" for path in real):
            prepare.docker_py()
            prepare.compose()


def _real(item: pytest.Item) -> bool:
    return item.get_closest_marker("real") is not None
