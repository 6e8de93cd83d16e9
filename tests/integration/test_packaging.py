# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection and the wheel work on another machine: both are installed without a network."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
import yaml

from tests.helpers.documented_commands import commands

CHECKOUT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
GALAXY = yaml.safe_load((CHECKOUT / "galaxy.yml").read_text())
CONNECTION = "stockyard.container_hosts.connection"
PLAYBOOK = """
- name: Use an installed module
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Ask an empty yard for its fleets
      stockyard.container_hosts.fleet_info:
        hypervisor: "memory://{{ state }}"
        owner: packaging
      register: answer

    - name: See that there are none
      ansible.builtin.assert:
        that: answer.fleets == []
"""


SOURCES = (".md", ".yml", ".yaml", ".py", ".sh", ".txt", ".toml", ".service", ".lease")
WITHOUT_LIBVIRT = """
import sys
sys.modules["libvirt"] = None
from stockyard.providers.libvirt.connection import open_connection
try:
    open_connection("qemu:///session")
except Exception as error:
    print(error)
"""


def run(*command: str | Path, home: Path, **environment: str) -> str:
    """Run a command with an empty home and no settings of the caller's Ansible or Python; its
    output, or a failure.
    """
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("ANSIBLE_", "PYTHON", "XDG_"))
    }
    path = f"{TOOLS}:{os.environ['PATH']}"
    settings = {"HOME": str(home), "PATH": path, **environment}
    result = subprocess.run(
        [str(word) for word in command],
        check=False,
        cwd=home,
        env={**inherited, **settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty home directory."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def tarball(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection, built from the checkout."""
    target = tmp_path_factory.mktemp("tarball")
    run("ansible-galaxy", "collection", "build", CHECKOUT, "--output-path", target, home=home)
    return target / f"stockyard-container_hosts-{GALAXY['version']}.tar.gz"


@pytest.fixture(scope="module")
def wheel(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SDK, built from the checkout."""
    target = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-index")
    run(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", target, CHECKOUT, home=home)
    return target / f"stockyard-{GALAXY['version']}-py3-none-any.whl"


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """The metadata of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        name = f"stockyard-{GALAXY['version']}.dist-info/METADATA"
        return Parser().parsestr(archive.read(name).decode())


def test_the_collection_ships_sources_only(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        tops = {name.partition("/")[0] for name in archive.getnames()}
    assert {
        "LICENSE",
        "README.md",
        "MANIFEST.json",
        "meta",
        "plugins",
        "requirements.txt",
        "bindep.txt",
    } <= tops
    assert not {name for name in tops if name.startswith(".")}
    assert not tops & {"build", "collections", "dist"}


def test_an_installed_module_runs(tarball: Path, home: Path, tmp_path: Path) -> None:
    collections = {
        "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections"),
        "ANSIBLE_LOCALHOST_WARNING": "False",
    }
    install = ("ansible-galaxy", "collection", "install", "--offline", "--force")
    run(*install, "--collections-path", tmp_path / "collections", tarball, home=home, **collections)
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(PLAYBOOK)
    state = f"state={tmp_path}/yard.json"
    assert "failed=0" in run(
        "ansible-playbook", playbook, "--extra-vars", state, home=home, **collections
    )


@pytest.fixture(scope="module")
def installed(
    tarball: Path, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The environment of a user who installed the tarball and has nothing else."""
    place = tmp_path_factory.mktemp("installed")
    environment = {
        "ANSIBLE_COLLECTIONS_PATH": str(place / "collections"),
        "ANSIBLE_LOCALHOST_WARNING": "False",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "False",
        "PWD": str(home),
        "STOCKYARD_HYPERVISOR": f"memory://{place}/hypervisor",
    }
    install = (
        "ansible-galaxy",
        "collection",
        "install",
        "--offline",
        "--collections-path",
        place / "collections",
    )
    run(*install, tarball, home=home, **environment)
    return environment


def test_the_demo_runs_from_the_tarball(installed: dict[str, str], home: Path) -> None:
    """Create, list, show and delete objects with the programs of the wheel."""

    def playbook(name: str, *more: str) -> str:
        return run(
            "ansible-playbook",
            f"stockyard.container_hosts.{name}",
            *demo,
            *more,
            home=home,
            **installed,
        )

    collection = (
        Path(installed["ANSIBLE_COLLECTIONS_PATH"])
        / "ansible_collections"
        / "stockyard"
        / "container_hosts"
    )
    demo = ("-e", f"yard={collection}/examples/yard.yml")
    assert "create host web-3" in playbook("site")
    (home / "web.stockyard.yml").write_text(
        "plugin: stockyard.container_hosts.hosts\nowner: demo\n"
    )
    listed = run(
        "ansible-inventory", "-i", home / "web.stockyard.yml", "--graph", home=home, **installed
    )
    assert listed.count("--web-3") > 1
    playbook("report", "-e", "report_dest=yard.html")
    assert "web-3" in (home / "yard.html").read_text()
    playbook("teardown")
    listed = run(
        "ansible-inventory", "-i", home / "web.stockyard.yml", "--graph", home=home, **installed
    )
    assert "web-3" not in listed


def test_every_module_takes_the_groups_defaults() -> None:
    groups = yaml.safe_load((CHECKOUT / "meta" / "runtime.yml").read_text())["action_groups"]
    texts = {
        path.stem: path.read_text() for path in (CHECKOUT / "plugins" / "modules").glob("*.py")
    }
    # Those that work on a host alone know no hypervisor, and would refuse the options of one.
    assert set(groups["all"]) == {name for name, text in texts.items() if CONNECTION in text}
    assert sorted(set(texts) - set(groups["all"])) == [
        "audit",
        "docker_config",
        "nested",
        "run_here",
        "subid",
    ]


def test_modules_with_progress_have_an_action_plugin() -> None:
    """Modules that take progress_file, by their documentation."""
    texts = {
        path.stem: path.read_text() for path in (CHECKOUT / "plugins" / "modules").glob("*.py")
    }
    actions = {path.stem for path in (CHECKOUT / "plugins" / "action").glob("*.py")}
    assert {
        name for name, text in texts.items() if "stockyard.container_hosts.progress" in text
    } == actions


def test_names_are_such_that_galaxy_takes_them() -> None:
    """Its importer refuses a collection that holds any other Python file in plugins."""
    stems = {path.stem for path in (CHECKOUT / "plugins").rglob("*.py")} - {"__init__"}
    assert {
        stem for stem in stems if not re.fullmatch(r"(?!.*__)_?[a-z]+[0-9a-z_]*", stem)
    } == set()


def test_execution_environment_names_existing_files() -> None:
    defined = yaml.safe_load((CHECKOUT / "meta" / "execution-environment.yml").read_text())
    assert all((CHECKOUT / name).is_file() for name in defined["dependencies"].values())


def test_a_source_distribution_makes_the_same_wheel(
    wheel: Path, home: Path, tmp_path: Path
) -> None:
    run(
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "sdist",
        "-d",
        tmp_path,
        home=CHECKOUT,
        HOME=str(home),
    )
    (archive,) = tmp_path.glob("*.tar.gz")
    pip = (
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "wheel",
        "--no-index",
        "--no-deps",
    )
    run(*pip, "--no-build-isolation", "--wheel-dir", tmp_path / "again", archive, home=home)
    (second_wheel,) = (tmp_path / "again").glob("*.whl")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(second_wheel) as second:
        assert sorted(first.namelist()) == sorted(second.namelist())


def test_the_sdk_imports_from_its_wheel_alone(wheel: Path, home: Path, tmp_path: Path) -> None:
    # Without dependencies: third-party libraries are imported where they are opened.
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", home=home)
    python = tmp_path / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--no-index", "--no-deps", wheel, home=home)
    where = run(python, "-I", "-c", "import stockyard; print(stockyard.__file__)", home=home)
    assert Path(where.strip()).is_relative_to(tmp_path)
    command = tmp_path / "venv" / "bin" / "stockyard"
    result = subprocess.run([command, "ls"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert "the command line needs the library click" in result.stderr
    assert "lease" in run(command, "--help", home=home, PYTHONPATH=click_alone(tmp_path))


def click_alone(folder: Path) -> str:
    """Return a directory with one library of this environment, that of the command line."""
    folder = folder / "libraries"
    folder.mkdir()
    (folder / "click").symlink_to(Path(importlib.import_module("click").__file__ or "").parent)
    return str(folder)


def test_console_command_is_installed_as_in_the_readme(home: Path, tmp_path: Path) -> None:
    """Into an empty home; without the libraries, which are not what is tried. Then it says which
    one is missing.
    """
    readme = CHECKOUT / "README.md"
    lines = [line for line in commands(readme) if ".local" in line]
    assert len(lines) == 4
    place = tmp_path / "home"
    place.mkdir()
    # As the checkout is: where its own files are, not those that tests leave there.
    run(CHECKOUT / "hack" / "sync.sh", tmp_path / "checkout", home=place)
    script = f"cd {tmp_path}/checkout\n" + "\n".join(lines).replace(
        "pip install", "pip install --no-deps"
    )
    run("bash", "-euc", script, home=place, PIP_DISABLE_PIP_VERSION_CHECK="1")
    command = str(place / ".local" / "bin" / "stockyard")
    assert "lease" in run(command, "--help", home=place, PYTHONPATH=click_alone(tmp_path))
    python = place / ".local" / "lib" / "stockyard" / "bin" / "python"
    hidden = [str(python), "-c", WITHOUT_LIBVIRT]
    result = subprocess.run(
        hidden, capture_output=True, text=True, check=False, env={"HOME": str(place)}, timeout=60
    )
    assert "pip install libvirt-python" in result.stdout, result.stderr
    assert "ansible" not in result.stdout.lower()


UNPUBLISHED = re.compile(
    r"pip3? install [^\n`]*?(?<![./-])\bstockyard\b(?![/\w.-])"
    r"|collection install (--?\S+ +)*stockyard\.container_hosts"
    r"|^\s*- (name: )?stockyard\.container_hosts\s*$|^stockyard(\[\w+\])? *[=~<>]="
)


@pytest.mark.parametrize(
    "folder", ["README.md", "docs", "examples", "roles", "playbooks", "plugins", "meta", "hack"]
)
def test_packages_that_are_not_published_are_installed_from_no_registry(folder: str) -> None:
    """A stranger could publish something of these names."""
    top = CHECKOUT / folder
    paths = (
        [top]
        if top.is_file()
        else sorted(p for p in top.rglob("*") if p.suffix in SOURCES or not p.suffix)
    )
    lines = [
        f"{path.relative_to(CHECKOUT)}: {line}"
        for path in paths
        if path.is_file()
        for line in path.read_text(errors="replace").splitlines()
        if UNPUBLISHED.search(line)
    ]
    assert lines == []


@pytest.mark.parametrize(
    "line",
    [
        "pip install stockyard",
        "run `pip install --user 'stockyard[libvirt]'`.",
        "python3 -m pip install -U stockyard==1",
        "ansible-galaxy collection install stockyard.container_hosts",
        "  - name: stockyard.container_hosts",
        "ansible-galaxy collection install --force stockyard.container_hosts",
    ],
)
def test_line_that_installs_them_from_a_registry_is_recognized(line: str) -> None:
    assert UNPUBLISHED.search(line)


def test_wheel_metadata_is_complete(metadata: Message) -> None:
    assert metadata["Version"] == GALAXY["version"]
    assert metadata["License-Expression"] == "GPL-3.0-or-later"
    assert metadata.get_all("Provides-Extra") == ["cli", "endpoint", "libvirt", "vsphere"]


def test_the_wheel_names_the_pytest_plugin(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/entry_points.txt")]
        text = archive.read(name).decode()
        assert "stockyard/testing/pytest_plugin.py" in archive.namelist()
    assert "[pytest11]\nstockyard = stockyard.testing.pytest_plugin\n" in text


def test_the_wheel_is_typed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert "stockyard/py.typed" in archive.namelist()
