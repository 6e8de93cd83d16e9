# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each module returns exactly the keys that its documentation contains.

One story runs all modules in this process, over a hypervisor in a file.
"""

from __future__ import annotations

import copy
import importlib
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from hack.generate import MODULES, block
from hack.returns import SAME_KEYS
from stockyard.hostconfig.machine import Machine
from tests.jenkins.controller import TOKEN, USER, Computer, Jenkins, serving

from .hostconfig.test_nested import Docker, equip

Mapping = dict[str, Any]

NAMES = sorted(path.stem for path in MODULES.glob("*.py") if path.stem != "run_here")
# Results that Ansible itself documents.
STANDARD = {"changed", "diff", "failed", "msg"}
# Results that change how Ansible treats a task.
RESERVED = {"attempts", "deprecations", "exception", "invocation", "results", "skipped", "warnings"}
# Conditions of results that only other hypervisors return; tests/unit/providers covers those.
ELSEWHERE = ("on libvirt", "on vSphere")
# Mappings whose keys are data, such as the names of hosts or the keys of a configuration.
FREE = {"config", "diff", "drift", "environment", "figures", "labels", "missing_updates", "revoked"}
FLEET: Mapping = {
    "name": "web",
    "template": "docker",
    "count": 2,
    "ports": [8080],
    "pool": "ci",
    "volumes": [{"name": "{host}-data", "path": "/data"}],
}
# Modules of a machine itself: the function that returns the machine, options that succeed, and
# options that fail.
MACHINE_MODULES: dict[str, tuple[str, Mapping, Mapping]] = {
    "audit": (
        "of_root",
        {"security": {"profile": "shared"}, "benchmark": True},
        {"security": {"profile": "shared"}, "fail": True},
    ),
    "docker_config": (
        "Machine",
        {"config": {"debug": True}},
        {"config": {}, "path": "/damaged.json"},
    ),
    "nested": ("of_root", {}, {"memory_mib": 1 << 20}),
    "subid": ("Machine", {"user": "red"}, {"user": "blue", "first": 100000}),
}


class Ended(Exception):
    """The end of a module, with its result."""


class ReplacedModule:
    """A replacement for ``AnsibleModule`` that raises the result."""

    def __init__(self, options: Mapping, *, check: bool, **arguments: Any) -> None:
        spec = arguments.pop("argument_spec")
        del arguments["supports_check_mode"]
        validation = ArgumentSpecValidator(spec, **arguments).validate(options)
        assert not validation.error_messages, validation.error_messages
        self.params = validation.validated_parameters
        self.check_mode, self._diff = check, True
        self.no_log_values: set[str] = set()

    def exit_json(self, **result: Any) -> None:
        """End with a success."""
        raise Ended(result)

    def fail_json(self, **result: Any) -> None:
        """End with a failure."""
        raise Ended({"failed": True, **result})


class Story:
    """Runs of modules, with their results."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "yard.json"
        self.common = {"hypervisor": f"memory://{self.state}", "pki_dir": f"{directory}/pki"}
        self.results: dict[str, list[Mapping]] = defaultdict(list)
        self.options: dict[str, Mapping] = {}

    def run(self, name: str, /, *, check: bool = False, **options: Any) -> Mapping:
        """Run a module and return its result."""
        module = importlib.import_module(f"plugins.modules.{name}")
        ansible = importlib.import_module("plugins.module_utils._ansible")

        def replacement(**arguments: Any) -> ReplacedModule:
            if "hypervisor" in arguments["argument_spec"]:
                self.options[name] = options
                return ReplacedModule({**self.common, **options}, check=check, **arguments)
            return ReplacedModule(options, check=check, **arguments)

        with mock.patch.object(ansible, "AnsibleModule", replacement), pytest.raises(Ended) as end:
            module.main()
        result: Mapping = end.value.args[0]
        self.results[name].append(result)
        return result

    def succeed(self, name: str, /, **options: Any) -> Mapping:
        """Run a module that must succeed."""
        result = self.run(name, **options)
        assert not result.get("failed"), result
        return result

    def fail(self, name: str, /, **options: Any) -> None:
        """Run a module that must fail with a structured error."""
        assert self.run(name, **options)["error"]["kind"]


def run_yard(story: Story, directory: Path) -> None:
    """Create, list and delete objects of each kind."""
    story.succeed("hypervisor_info")
    story.succeed("pool", name="all", hosts=10, memory_mib=65536)
    story.succeed("pool", name="ci", parent="all", hosts=9)
    story.succeed("template", name="portable", cpu={"model": "Skylake-Server-v4"})
    story.succeed("template", name="docker")
    saved = f"{directory}/docker.tar"
    story.succeed("template_transfer", operation="save", name="portable", path=saved)
    story.succeed("template_transfer", operation="load", path=saved, name="x")
    story.succeed("host", name="builder", template="docker", check=True)
    volumes = [{"name": "builder-data", "path": "/srv/data"}]
    story.succeed("host", name="builder", template="docker", volumes=volumes)
    story.succeed("fleet", **FLEET)
    story.succeed("volume", name="results", state="attached", host="builder")
    story.succeed("host", name="trunk", template="docker")
    story.succeed("branch", host="trunk", names=["twig"], check=True)
    story.succeed("branch", host="trunk", names=["twig"])
    story.succeed("endpoint", name="doors", template="docker", socket="/doors.sock", check=True)
    story.succeed("endpoint", name="doors", template="docker", socket="/doors.sock")
    story.succeed("lease", holder="job", fleet="web")
    story.succeed("fleet", **FLEET)
    story.succeed("client_certificate", name="me")
    for name in ("fleet_info", "host_info"):
        story.succeed(name, check_updates=True)
    for name in ("endpoint_info", "lease_info", "pool_info", "template_info", "volume_info"):
        story.succeed(name)
    story.succeed("report", dest=f"{directory}/yard.html")
    run_jenkins(story)
    story.succeed("lease", holder="job", fleet="web", state="released")
    story.succeed("pool", name="unused", state="absent")
    story.succeed("host", name="builder", state="absent")
    declaration = {"fleets": [{"name": "ci", "template": "docker"}]}
    story.succeed("yard", state="present", declaration=declaration)
    story.succeed("yard", state="absent", check=True)
    with story.state.open("a") as state:
        machine = {"record": "", "state": "running"}
        state.write(json.dumps(["stockyard.default.foreign", machine]) + "\n")
    story.succeed("reap")
    for name, options in story.options.copy().items():
        story.fail(name, **{**options, "hypervisor": "unknown:///"})


def run_jenkins(story: Story) -> None:
    """Register the hosts of a fleet in Jenkins, which has a node with a damaged marker too."""
    with serving() as jenkins:
        controller = {
            "controller_url": jenkins.url,
            "controller_user": USER,
            "controller_token": TOKEN,
            "fleet": "web",
        }
        story.succeed("jenkins_nodes", **controller, launcher="inbound", labels=["docker"])
        add_damaged_node(jenkins)
        story.succeed("jenkins_nodes_info", **controller, secrets=True)


def add_damaged_node(jenkins: Jenkins) -> None:
    """Give Jenkins a copy of a node, with a damaged marker."""
    xml = copy.deepcopy(next(iter(jenkins.computers.values())).xml)
    for element in xml:
        if element.tag in ("name", "description"):
            element.text = {"name": "damaged", "description": "stockyard:{"}[element.tag]
    jenkins.computers["damaged"] = Computer(xml)


def run_machine(story: Story, directory: Path) -> None:
    """Run the modules for a machine itself."""
    programs = Docker()
    machine = Machine(str(directory), programs)
    equip(machine, programs)
    machine.write("/damaged.json", "{")
    for name, (source, right, wrong) in MACHINE_MODULES.items():
        module = importlib.import_module(f"plugins.modules.{name}")
        with mock.patch.object(module, source, return_value=machine):
            story.succeed(name, **right)
            story.fail(name, **wrong)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """All runs."""
    directory = tmp_path_factory.mktemp("yard")
    runs = Story(directory)
    run_yard(runs, directory)
    run_machine(runs, directory / "machine")
    return runs


def returned_keys(results: list[Mapping], entries: Mapping, prefix: str = "") -> Iterator[str]:
    """Return the keys of results, with those of documented entries inside them."""
    for result in results:
        for name, value in result.items():
            yield f"{prefix}{name}"
            items = value if isinstance(value, list) else [value]
            mappings = [item for item in items if isinstance(item, dict)]
            if name not in FREE:
                nested = entries.get(name, {}).get("contains", {})
                yield from returned_keys(mappings, nested, f"{prefix}{name}.")


def documented_keys(entries: Mapping, prefix: str = "") -> Iterator[tuple[str, Mapping]]:
    """Return the documented keys, each with its entry."""
    for name, entry in entries.items():
        yield f"{prefix}{name}", entry
        yield from documented_keys(entry.get("contains", {}), f"{prefix}{name}.")


def return_entries(module: str) -> Mapping:
    """Return the block RETURN of a module, with the keys that other modules document."""
    entries = written_entries(module)
    for name, entry in entries.items():
        other_module, _dot, result = SAME_KEYS.get(f"{module}.{name}", "").partition(".")
        if other_module:
            entry["contains"] = written_entries(other_module)[result]["contains"]
    return entries


def written_entries(module: str) -> Mapping:
    """Return the block RETURN of a module."""
    return dict(yaml.safe_load(block(MODULES / f"{module}.py", "RETURN")))


@pytest.mark.parametrize("module", NAMES)
def test_module_returns_documented_keys_only(story: Story, module: str) -> None:
    entries = return_entries(module)
    documented = {key for key, _entry in documented_keys(entries)}
    assert set(returned_keys(story.results[module], entries)) - STANDARD - documented == set()


@pytest.mark.parametrize("module", NAMES)
def test_module_returns_each_documented_key(story: Story, module: str) -> None:
    """A key inside a mapping is expected if a run returned the mapping."""
    entries = return_entries(module)
    returned = set(returned_keys(story.results[module], entries))
    parents = {key.rpartition(".")[0] for key in returned}
    expected = {
        key
        for key, entry in documented_keys(entries)
        if entry.get("returned") not in ELSEWHERE and key.rpartition(".")[0] in parents
    }
    assert expected - returned == set()


@pytest.mark.parametrize("module", NAMES)
def test_key_is_returned_under_its_documented_condition(story: Story, module: str) -> None:
    """``success``, ``failure`` and ``always`` are taken literally."""
    for name, entry in return_entries(module).items():
        for result in story.results[module]:
            outcome = "failure" if result.get("failed") else "success"
            if entry["returned"] in (outcome, "always"):
                assert name in result, result
            elif entry["returned"] in ("success", "failure"):
                assert name not in result, result


@pytest.mark.parametrize("module", NAMES)
def test_result_of_a_module_has_no_name_that_ansible_reserves(story: Story, module: str) -> None:
    for result in story.results[module]:
        assert result.keys() & RESERVED == set()
