# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the parts of the Ansible interface that follow from other files.

``make generate`` updates the checkout. A test fails if a file is out of date.

- Type, choices and default of each documented option follow from the argument specs, which
  :mod:`stockyard.declarations.options` computes from the SDK.
- The results that describe objects follow from the dataclasses of the SDK, see
  :mod:`hack.returns`.
- The reference of the command line follows from its commands, see :mod:`hack.cli_reference`.
- ``roles/yard/meta/argument_specs.yml`` follows from the documentation of the modules.

The description of an option is written by hand, in its module or its fragment.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import re
import sys
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import yaml

from hack.cli_reference import with_reference
from hack.plain_yaml import entries, paragraphs
from hack.returns import MissingTextError, results

CHECKOUT = Path(__file__).resolve().parents[1]
MODULES = CHECKOUT / "plugins/modules"
FRAGMENTS = CHECKOUT / "plugins/doc_fragments"
ROLE = CHECKOUT / "roles/yard"
FACTS = ("type", "elements", "required", "choices", "default")

Options = dict[str, dict[str, Any]]

ROLE_HEAD = """\
# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Written by hack/generate.py from the documentation of the modules.
---
"""
PURPOSE = (
    "Converges all pools, templates, volumes, fleets and endpoints of a declaration, and deletes "
    "undeclared objects as O(yard_prune) permits."
)
RESULTS = (
    "After the run the variable C(yard_hosts) contains the hosts of all declared fleets, each with "
    "the keys that the module M(stockyard.container_hosts.fleet) returns. C(yard_plan) contains "
    "the actions that were taken."
)
ROLE_MAIN = {
    "short_description": "Manage a yard of container hosts from a declaration",
    "version_added": "0.1.0",
    "description": [PURPOSE, RESULTS],
    "author": ["stockyard contributors"],
}
# Options of the module yard that are variables of the role, in addition to the common options.
ROLE_OPTIONS = ("prune", "rebuild", "local_hypervisor", "save_plan", "apply_plan")
RELATIVE = "A relative path starts at the directory in which Ansible was started."
ROLE_NOTES = {"save_plan": RELATIVE, "apply_plan": RELATIVE}
# Variables of the role that are no option of the module yard.
BUILD_ON = (
    "With several hypervisors in a run, the one that builds each template. The others load the "
    "template from O(yard_registry), or from a file that Ansible carries through the controller."
)
NO_BUILD_ON = (
    "The value is the name of a hypervisor in the inventory, or V(first) for the first one of the "
    "run. If it is empty, or if O(yard_build_on) is not part of the run, each hypervisor builds "
    "its own templates."
)
OTHER_PLATFORM = (
    "A hypervisor on which the memory of a template cannot be resumed, or with another declaration "
    "of the template, builds it itself."
)
REGISTRY = (
    "The registry that O(yard_build_on) sends templates to, with the beginning of the repository, "
    "such as V(registry.example.com/team). The name of a template follows."
)
ROLE_VARIABLES: Options = {
    "yard_build_on": {"description": [BUILD_ON, NO_BUILD_ON, OTHER_PLATFORM], "type": "str"},
    "yard_registry": {
        "description": [REGISTRY, "If it is empty, templates are carried through the controller."],
        "type": "str",
    },
    "yard_registry_username": {
        "description": ["The user of O(yard_registry). Without a user, requests are anonymous."],
        "type": "str",
    },
    "yard_registry_password": {
        "description": ["The password or the token of O(yard_registry_username)."],
        "type": "str",
        "no_log": True,
    },
}
# Variables that list objects, each with its module and its description.
ROLE_LISTS = {
    "yard_templates": ("template", "The templates."),
    "yard_volumes": (
        "volume",
        "The volumes, in the order of their creation. Undeclared volumes are never deleted.",
    ),
    "yard_fleets": ("fleet", "The fleets."),
    "yard_pools": ("pool", "The pools."),
    "yard_endpoints": ("endpoint", "The Docker endpoints whose containers are virtual machines."),
}


class CapturedSpecError(Exception):
    """The argument spec of a module that would have run."""


def main() -> None:
    """Write the files that are out of date. With ``--diff`` print what would change instead."""
    for path, text in outdated().items():
        if "--diff" in sys.argv:
            sys.stdout.write(difference(path, text))
        else:
            path.write_text(text)


def outdated() -> dict[Path, str]:
    """Return the new texts of the files that are out of date."""
    return {path: text for path, text in generated().items() if path.read_text() != text}


def difference(path: Path, text: str) -> str:
    """Return the change of a file as a patch."""
    name, old = path.relative_to(CHECKOUT), path.read_text().splitlines(keepends=True)
    new = text.splitlines(keepends=True)
    return "".join(difflib.unified_diff(old, new, f"a/{name}", f"b/{name}"))


def generated() -> dict[Path, str]:
    """Return the texts of all files with generated parts."""
    modules = sorted(MODULES.glob("*.py"))
    for path in modules:
        documented(path.stem)
    texts = {path: with_options(path) for path in sorted(FRAGMENTS.glob("*.py"))}
    texts |= {path: with_results(path, with_options(path)) for path in modules}
    page = CHECKOUT / "docs/cli.md"
    texts[page] = with_reference(page.read_text())
    return {**texts, ROLE / "meta/argument_specs.yml": role_specs()}


# Modules


@functools.cache
def argument_spec(module: str) -> Options:
    """Return the argument spec of a module."""
    ansible = importlib.import_module("plugins.module_utils._ansible")
    plugin = importlib.import_module(f"plugins.modules.{module}")
    caller = plugin if hasattr(plugin, "AnsibleModule") else ansible
    try:
        with mock.patch.object(caller, "AnsibleModule", _capture):
            plugin.main()
    except CapturedSpecError as captured:
        spec: Options = captured.args[0]
        return spec
    raise MissingTextError(f"Module {module} has no argument spec.")


def _capture(*, argument_spec: Options, **_rules: Any) -> NoReturn:
    raise CapturedSpecError(argument_spec)


def block(path: Path, name: str) -> str:
    """Return a block of documentation of a plugin."""
    match = re.search(rf'\b{name} = r"""\n?(.*?)"""', path.read_text(), re.DOTALL)
    if not match:
        raise MissingTextError(f"{path} has no block {name}.")
    return match[1]


@functools.cache
def documentation(path: Path) -> dict[str, Any]:
    """Return the block DOCUMENTATION of a plugin."""
    return dict(yaml.safe_load(block(path, "DOCUMENTATION")))


@functools.cache
def fragments(module: str) -> tuple[Path, ...]:
    """Return the fragments that the documentation of a module includes."""
    names = documentation(MODULES / f"{module}.py").get("extends_documentation_fragment", [])
    return tuple(FRAGMENTS / f"{name.rpartition('.')[2]}.py" for name in names)


def documented(module: str) -> Options:
    """Return the documented options of a module, including those of its fragments.

    :raises MissingTextError: if an option has no description, or no argument spec.
    """
    own = documentation(MODULES / f"{module}.py").get("options", {})
    options: Options = {name: {} for name in own}
    for path in (*fragments(module), MODULES / f"{module}.py"):
        for name, option in documentation(path).get("options", {}).items():
            options[name] = {**options.get(name, {}), **option}
    _check(f"Module {module}", options, argument_spec(module))
    return options


def _check(place: str, options: Options, specs: Options) -> None:
    """Check that the same options have a description and an argument spec."""
    unmatched = options.keys() ^ specs.keys()
    if unmatched:
        names = ", ".join(sorted(unmatched))
        raise MissingTextError(f"{place}: {names} must have a description and an argument spec.")
    for name, option in options.items():
        _check(f"{place}: {name}", option.get("suboptions", {}), specs[name].get("options", {}))


def spec_of(path: Path) -> Options:
    """Return the argument specs of the options that one file documents.

    For a fragment these are specs of modules that include it.
    """
    if path.parent == MODULES:
        return argument_spec(path.stem)
    options: Options = {}
    for module in sorted(path.stem for path in MODULES.glob("*.py")):
        if path in fragments(module):
            own = documentation(MODULES / f"{module}.py").get("options", {})
            options |= {
                name: spec for name, spec in argument_spec(module).items() if name not in own
            }
    return options


def with_options(path: Path) -> str:
    """Return the text of a plugin whose documentation has the facts of its argument spec."""
    text, options = path.read_text(), documentation(path).get("options", {})
    if not options:
        return text
    new = "options:\n" + entries(completed(options, spec_of(path)), 2)
    old = re.search(r"^options:\n(?:(?: .*)?\n)*", block(path, "DOCUMENTATION"), re.MULTILINE)
    return text.replace(old[0], new) if old else text


def with_results(path: Path, text: str) -> str:
    """Return the text of a module whose documentation has the results of its objects."""
    old = block(path, "RETURN")
    written = yaml.safe_load(old)
    if not written:
        return text
    new = results(path.stem, written, set(argument_spec(path.stem)))
    return text.replace(f'RETURN = r"""\n{old}"""', f'RETURN = r"""\n{entries(new, 0)}"""')


def completed(options: Options, specs: Options) -> Options:
    """Return documented options with the facts of their argument specs."""
    return {name: _completed(option, specs[name]) for name, option in options.items()}


def _completed(option: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    entry = {"description": option["description"], **facts(spec)}
    # A module can describe an option of its fragment in other words, without its suboptions.
    if "suboptions" in option:
        entry["suboptions"] = completed(option["suboptions"], spec["options"])
    return entry


def facts(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of an argument spec that documentation contains."""
    return {name: spec[name] for name in FACTS if spec.get(name) is not None}


# The role yard


def role_specs() -> str:
    """Return the argument specs of the role."""
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    variables = {
        f"yard_{name}": _variable(name, defaults) for name in (*common_names(), *ROLE_OPTIONS)
    }
    for variable, entry in ROLE_VARIABLES.items():
        variables[variable] = {**entry, "default": defaults[variable]}
    for variable, (module, description) in ROLE_LISTS.items():
        reference = f"M(stockyard.container_hosts.{module})"
        variables[variable] = {
            "description": [
                description,
                f"Each item has the options and defaults of the module {reference}.",
            ],
            "type": "list",
            "elements": "dict",
            "default": defaults[variable],
            "options": _items(
                {
                    name: option
                    for name, option in documented(module).items()
                    if name not in (*common_names(), "progress_file", "local_hypervisor")
                },
                argument_spec(module),
            ),
        }
    main_entry = {"main": {**ROLE_MAIN, "options": variables}}
    return f"{ROLE_HEAD}argument_specs:\n{entries(main_entry, 2)}"


@functools.cache
def common_names() -> tuple[str, ...]:
    """Return the names of the options that every module has."""
    return tuple(importlib.import_module("plugins.module_utils._ansible").COMMON)


def _variable(name: str, defaults: dict[str, Any]) -> dict[str, Any]:
    """Return a variable of the role that is an option of the module yard."""
    spec = dict(argument_spec("yard")[name])
    description = [
        with_references(text, "O") for text in paragraphs(documented("yard")[name]["description"])
    ]
    default = spec.pop("default", None)
    if f"yard_{name}" in defaults:
        spec["default"] = defaults[f"yard_{name}"]
    elif default is not None:
        word = str(default).lower() if isinstance(default, bool) else default
        description.append(f"If the environment variable is not set either, V({word}) is used.")
    if name in ROLE_NOTES:
        description.append(ROLE_NOTES[name])
    secret = {"no_log": True} if spec.get("no_log") else {}
    return {"description": description, **facts(spec), **secret}


def _items(options: Options, specs: Options) -> Options:
    """Return the options of the objects in a variable."""
    return {name: _item(option, specs[name]) for name, option in options.items()}


def _item(option: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    texts = [with_references(text, "C") for text in paragraphs(option["description"])]
    entry = {"description": texts, **facts(spec)}
    if "options" in spec:
        entry["options"] = _items(option["suboptions"], spec["options"])
    return entry


def with_references(text: str, macro: str) -> str:
    """Return a paragraph of a module whose references are those of the role.

    :param macro: the macro for variables: ``O``, or ``C`` inside the options of an object.
    """

    def reference(match: re.Match[str]) -> str:
        name = match[1].removeprefix("ignore:")
        if re.match(r"\w*", name)[0] in (*common_names(), *ROLE_OPTIONS):  # type: ignore[index]
            return f"{macro}(yard_{name})"
        return f"C({name})"

    return re.sub(r"\b(?:O|RV)\(([^()]*)\)", reference, text)


if __name__ == "__main__":
    main()
