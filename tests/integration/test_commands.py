# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every command in README and docs is run: here, over a memory hypervisor, or where
this says so.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.documented_commands import PAGES, commands, steps

from .conftest import CHECKOUT, PATIENCE, Controller

# The preparation of each page's commands, in the order of the page, before and between them.
YARD = """
yard_templates: [{name: docker}]
yard_fleets:
  - {name: web, template: docker, count: 2, ports: [8080]}
  - {name: ci, template: docker, count: 2}
"""
HERE = re.compile(
    r"(eval \W+)?(ansible-(playbook stockyard\.|inventory |galaxy )|"
    r"stockyard |cat |mkdir |tar -C |cd [~-])"
)
# Commands that need more than a memory hypervisor: those of a checkout, a guest, a desktop session
# or a vCenter. Each with the file that does the same, or the reason why none can.
ELSEWHERE = {
    r"make ": "Makefile",
    r"\.ci/run": ".ci/run",
    r"source \.venv/bin/activate": "hack/setup.sh",
    r"virsh -c qemu:///session ": "tests/e2e/test_recovery.py",
    r"ansible -i web\.stockyard\.yml fleet_web -m ansible\.builtin\.ping": (
        "tests/e2e/test_inventory.py"
    ),
    r"ansible-playbook -i web\.stockyard\.yml page\.yml": "tests/e2e/test_newcomer.py",
    r"ansible-playbook -i inventory ": "tests/integration/test_hypervisors.py",
    r"docker info": "tests/e2e/test_docker_client.py",
    r"stockyard ssh-config --include >> ": "tests/unit/cli/test_hosts.py",
    r"(ssh web-1$|DOCKER_HOST=ssh://web-1 |docker -H tcp://localhost:12376 )": (
        "tests/e2e/test_cli.py"
    ),
    r"stockyard lease exec .* --sync ": "tests/unit/cli/test_lease_sync.py",
    # Another computer has the key; the test has a repository with a key of its own.
    r"(curl -fsSLo|gpg --show-keys) docker\.asc": "tests/e2e/test_docker_ce.py",
    r"stockyard serve ": "tests/unit/service/test_daemon.py",
    r"(stockyard lease exec --service|export STOCKYARD_SERVICE)": "tests/unit/cli/test_serve.py",
    r'eval "\$\(stockyard lease take --fleet ci --wait 5m': "tests/unit/cli/test_serve.py",
    r"stockyard lease exec .* -- act ": "tests/e2e/test_act_lease.py",
    r"stockyard (ssh|exec|cp|docker|tunnel|logs|console) ": "tests/e2e/test_cli.py",
    r"(stockyard endpoint serve|export DOCKER_HOST=|docker run) ?": "tests/e2e/test_endpoint.py",
    r"docker compose ": "tests/e2e/test_endpoint_clients.py",
    r"act ": "tests/e2e/test_endpoint_programs.py",
    r"cp examples/buildbot/lease": "tests/integration/test_buildbot_leases.py",
    r"(docker load|buildbot|cp examples/buildbot/\S+) ": "tests/e2e/test_endpoint_buildbot.py",
    r"cd (examples/)?role_sample": "tests/e2e/test_molecule.py",
    r"molecule (test|create|converge|login --host debian)": "tests/e2e/test_molecule.py",
    r"molecule destroy": "tests/e2e/test_molecule.py",  # words: a command of molecule
    r"python3 -m pip install ": "tests/integration/test_packaging.py",
    r"(python3 -m venv|~/\.local/lib/stockyard/bin/pip|mkdir -p ~/\.local/bin|ln -sf) ": (
        "tests/integration/test_packaging.py"
    ),
    r"cp examples/systemd/stockyard-reap": "examples/systemd/stockyard-reap.timer",
    r"(cp examples/systemd/stockyard-suspend|mkdir -p ~/\.config/systemd/user)": (
        "examples/systemd/stockyard-suspend.service"
    ),
    r"(systemctl --user|loginctl) ": "examples/systemd/stockyard-reap.timer",
    r"rm -r ": "tests/integration/test_site.py",
    r"(export VMWARE|govc )": "docs/vsphere.md",
    r"ansible-playbook stockyard\.container_hosts\.vsphere_preflight ": "tests/vcsim/test_site.py",
    r"ansible-playbook stockyard\.container_hosts\.vsphere_template ": (
        "tests/e2e/test_vsphere_template.py"
    ),
    r"ansible-playbook stockyard\.container_hosts\.(registry|build_push_dispose) ": (
        "tests/e2e/test_registry.py"
    ),
    r"(export JENKINS_API_TOKEN|ansible-playbook stockyard\.container_hosts\.jenkins_agents )": (
        "tests/integration/test_jenkins.py"
    ),
}


def is_elsewhere(command: str) -> bool:
    return any(re.match(pattern, command) for pattern in ELSEWHERE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_has_its_place(page: Path) -> None:
    lost = [line for line in commands(page) if not HERE.match(line) and not is_elsewhere(line)]
    assert lost == []


def test_documented_directories_exist() -> None:
    assert [place for place in ELSEWHERE.values() if not (CHECKOUT / place).exists()] == []


@pytest.mark.parametrize("become", ["", "su - stockyard"])
def test_lines_that_the_demo_ends_with_lead_to_its_tools(
    controller: Controller, become: str
) -> None:
    """Typed as they are printed, but for the one that root needs first."""
    environment = {**controller.environment, "STOCKYARD_BECOME": become}
    where = [CHECKOUT / "hack" / "where.sh"]
    result = subprocess.run(
        where, env=environment, capture_output=True, text=True, check=True, cwd=controller.home
    )
    assert f"keys are in {controller.home}/.config/stockyard" in result.stderr
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert lines[:-5] == [become] * bool(become)
    subprocess.run(
        [CHECKOUT / "hack" / "playbook.sh", "site", "--version"], check=True, capture_output=True
    )
    typed = subprocess.run(
        ["bash", "-euc", "\n".join([*lines[-5:-1], f"{lines[-1]} --check"])],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert typed.returncode == 0, typed.stdout + typed.stderr
    assert "create host web-3" in typed.stdout


def test_documented_make_targets_exist() -> None:
    documented = {
        line.split()[1] for page in PAGES for line in commands(page) if line.startswith("make ")
    }
    makefile = (CHECKOUT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):.* ## ", makefile, re.MULTILINE))
    assert documented <= targets


class Reader:
    """A reader who types the commands of a page, line by line, into one shell."""

    def __init__(self, controller: Controller, folder: Path) -> None:
        self.folder = folder
        (folder / "yard.yml").write_text(YARD)
        (folder / "web.stockyard.yml").write_text("plugin: stockyard.container_hosts.hosts\n")
        tools = folder / "bin"
        tools.mkdir()
        # The programs that the wheel installs.
        (tools / "stockyard").write_text(
            f'#!/bin/sh\nexec {sys.executable} -m stockyard.cli.main "$@"\n'
        )
        (tools / "stockyard").chmod(0o755)
        self.environment = {
            **controller.environment,
            "HOME": str(folder),
            "PWD": str(folder),
            "PYTHONPATH": str(CHECKOUT / "plugins" / "module_utils"),
            "PATH": f"{tools}:{controller.environment['PATH']}",
            "STOCKYARD_HYPERVISOR": f"memory://{folder}/hypervisor",
        }

    def type(self, lines: list[str]) -> None:
        """One shell, as a variable or a directory of one line counts for the next."""
        script = "set -e\n" + "".join(f'echo "$ {n}" >&2\n{line}\n' for n, line in enumerate(lines))
        result = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert result.returncode == 0, f"{lines}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"


TYPED = [
    page
    for page in PAGES
    if any(HERE.match(line) and not is_elsewhere(line) for line in commands(page))
]


@pytest.fixture(scope="module")
def reader_with_yard(
    controller: Controller, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Reader]:
    """Return a function that restores the home directory of a reader who has run site."""
    reader = Reader(controller, tmp_path_factory.mktemp("reader"))
    reader.type(["ansible-playbook stockyard.container_hosts.site -e yard=yard.yml"])
    saved = reader.folder.with_name("saved")
    shutil.copytree(reader.folder, saved, symlinks=True)

    def restore() -> Reader:
        shutil.rmtree(reader.folder)
        shutil.copytree(saved, reader.folder, symlinks=True)
        return reader

    return restore


@pytest.mark.parametrize("page", TYPED, ids=lambda page: page.name)
def test_documented_commands_run_as_typed(
    controller: Controller, reader_with_yard: Callable[[], Reader], tmp_path: Path, page: Path
) -> None:
    newcomer = page.name == "newcomers-hour.md"
    reader = Reader(controller, tmp_path) if newcomer else reader_with_yard()
    lines: list[str] = []
    for name, text in [*steps(page), ("end", "")]:
        if name:
            # A file is written between the commands before it and those after it.
            reader.type(lines)
            lines = []
            (reader.folder / name).write_text(
                text.replace("qemu:///session", reader.environment["STOCKYARD_HYPERVISOR"])
            )
        elif not is_elsewhere(text):
            lines.append(text.replace("collection build", f"collection build {CHECKOUT}"))
