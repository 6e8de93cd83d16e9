# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interface between the SDK and Ansible: options in, one call, its result or its error out.

Only this file, and the module run_here, knows AnsibleModule.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO
from urllib.parse import unquote

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from .stockyard.errors import InvalidInput, MissingDependency, StockyardError
from .stockyard.escaping import one_line, printable
from .stockyard.model.info import Info
from .stockyard.model.login import Login
from .stockyard.result import Result
from .stockyard.yard import DEFAULT_HYPERVISOR, DEFAULT_OWNER, Yard

Params = dict[str, Any]
# The password of a URL such as http://user:password@proxy:3128.
_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/@:]*:([^\s/@]+)@")

# Options that every module has, so that defaults for the action group fit all of them.
COMMON: Params = {
    "hypervisor": {
        "type": "str",
        "default": DEFAULT_HYPERVISOR,
        "fallback": (env_fallback, ["STOCKYARD_HYPERVISOR"]),
    },
    "owner": {
        "type": "str",
        "default": DEFAULT_OWNER,
        "fallback": (env_fallback, ["STOCKYARD_OWNER"]),
    },
    "storage": {"type": "path"},
    "username": {"type": "str", "fallback": (env_fallback, ["VMWARE_USER"])},
    "password": {"type": "str", "no_log": True, "fallback": (env_fallback, ["VMWARE_PASSWORD"])},
    "validate_certs": {
        "type": "bool",
        "default": True,
        "fallback": (env_fallback, ["VMWARE_VALIDATE_CERTS"]),
    },
    "ca_path": {"type": "path", "fallback": (env_fallback, ["VMWARE_CA_PATH"])},
    "pki_dir": {"type": "path"},
    "ca_certificate": {"type": "str"},
    "ca_private_key": {"type": "str", "no_log": True},
    "volume_key": {"type": "str", "no_log": True},
}
PROGRESS: Params = {"progress_file": {"type": "path"}}
LIBRARIES = {
    "cryptography": "cryptography",
    "libvirt": "libvirt-python",
    "jinja2": "jinja2",
    "pyVmomi": "pyvmomi",
    "pyVim": "pyvmomi",
}


def mutating_module(options: Params, **rules: Any) -> AnsibleModule:
    """Return the module object of a module that changes a yard, with check mode."""
    return _module({**COMMON, **PROGRESS, **options}, rules)


def info_module(options: Params, **rules: Any) -> AnsibleModule:
    """Return the module object of a module that only reads."""
    return _module({**COMMON, **options}, rules)


def run_change(
    module: AnsibleModule,
    act: Callable[[Yard, Params, Params], Result[Any]],
    show: Callable[[list[Params]], Params],
) -> NoReturn:
    """Run a module's action and end the module.

    :param act: called with the yard, the module's parameters, and the keywords ``check`` and
        ``timeout``.
    :param show: returns the module's results for the objects of the call's result.
    """

    def work(yard: Yard) -> Params:
        mode = {"check": module.check_mode, "timeout": float(module.params["timeout"])}
        result = act(yard, module.params, mode)
        answer = {
            "changed": result.changed,
            "plan": [str(action) for action in result.plan.actions],
        }
        if module._diff:
            answer["diff"] = result.plan.diff()
        if result.retained:
            answer["retained"] = list(result.retained)
        return {**answer, **show([info.to_dict() for info in result.objects])}

    _bounded(module, work)


def checked(options: Params, params: Any, location: str) -> Params:
    """Return the validated parameters of a nested option, with their defaults.

    :raises InvalidInput: if the parameters do not match the options.
    """
    if not isinstance(params, dict):
        raise InvalidInput(
            f"{location}: {params!a} is no mapping.", remedy="give options and their values"
        )
    result = ArgumentSpecValidator(options).validate(params)
    if result.error_messages:
        raise InvalidInput(
            f"{location}: {'; '.join(result.error_messages)}.",
            remedy="see the module's documentation",
        )
    valid: Params = result.validated_parameters
    return valid


def run_local(options: Params, work: Callable[[Params, bool], Params], **rules: Any) -> NoReturn:
    """Run a module that uses no yard, on the machine of the task, and end it.

    :param work: called with the module's parameters and whether check mode is on; returns the
        results. A ``diff`` in the results is returned only in diff mode.
    """
    module = hide_passwords(AnsibleModule(argument_spec=options, supports_check_mode=True, **rules))
    try:
        answer = work(module.params, module.check_mode)
    except StockyardError as error:
        _for_ansible(error)
        module.fail_json(msg=_message(error), error=_structured(error))
    if not module._diff:
        answer.pop("diff", None)
    module.exit_json(**printable(answer))


def run_query(module: AnsibleModule, question: Callable[[Yard, Params], Params]) -> NoReturn:
    """Run a query and end the module.

    :param question: called with the yard and the module's parameters; returns the results, with
        objects as the SDK returns them.
    """

    def work(yard: Yard) -> Params:
        answer = question(yard, module.params).items()
        return {"changed": False, **{name: _plain(value) for name, value in answer}}

    _bounded(module, work)


def _plain(value: Any) -> Any:
    """Return a result with objects of the SDK as plain data."""
    if isinstance(value, Info):
        return value.to_dict()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _module(options: Params, rules: Params) -> AnsibleModule:
    together = [("ca_certificate", "ca_private_key")]
    return hide_passwords(
        AnsibleModule(
            argument_spec=options, supports_check_mode=True, required_together=together, **rules
        )
    )


def hide_passwords(module: AnsibleModule) -> AnsibleModule:
    """Declare the passwords in all URLs among a module's parameters secret, such as that of a
    proxy or mirror: Ansible removes them from results, errors and the shown invocation.
    """
    module.no_log_values.update(passwords_of(module.params))
    return module


def passwords_of(value: Any) -> set[str]:
    """Return the passwords in the URLs of nested parameters, as written and decoded."""
    if isinstance(value, dict):
        return set().union(*map(passwords_of, value.values()))
    if isinstance(value, (list, tuple)):
        return set().union(*map(passwords_of, value))
    if not isinstance(value, str):
        return set()
    passwords = _PASSWORD.findall(value)
    return {*passwords, *map(unquote, passwords)}


def _bounded(module: AnsibleModule, work: Callable[[Yard], Params]) -> NoReturn:
    """Run a function with an open yard and end the module. This is the only place where an error of
    the SDK becomes a failed task.
    """
    lines: list[str] = []
    progress_result = {"progress": lines} if "progress_file" in module.params else {}
    try:
        with (
            _progress(module.params.get("progress_file"), lines) as progress,
            open_yard(module.params, progress) as yard,
        ):
            answer = work(yard)
    except StockyardError as error:
        _for_ansible(error)
        module.fail_json(msg=_message(error), error=_structured(error), **progress_result)
    module.exit_json(**printable(answer), **progress_result)


def open_yard(params: Params, progress: Callable[[str], None] | None = None) -> Yard:
    """Return the yard that the common options select."""
    return Yard(
        params["hypervisor"],
        owner=params["owner"],
        storage=params["storage"],
        login=Login(
            params["username"] or "",
            params["password"] or "",
            params["validate_certs"],
            params["ca_path"] or "",
        ),
        pki_dir=params["pki_dir"],
        ca_certificate=params["ca_certificate"] or "",
        ca_private_key=params["ca_private_key"] or "",
        volume_key=params["volume_key"] or "",
        progress=progress,
    )


@contextmanager
def _progress(path: str | None, lines: list[str]) -> Iterator[Callable[[str], None]]:
    """Yield the function that reports progress: each line is recorded, and appended to a file
    immediately.
    """
    with _appending(path or os.devnull) as file:

        def report(line: str) -> None:
            lines.append(one_line(line))
            file.write(f"{one_line(line)}\n")

        yield report


def _appending(path: str) -> TextIO:
    try:
        return open(path, "a", buffering=1, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(
            "the progress file cannot be written.",
            name=path,
            cause=str(error),
            remedy="name a file in a directory that this user may write",
        ) from error


def _for_ansible(error: StockyardError) -> None:
    """Add the part of the remedy that only users of Ansible need: the console command shows the
    SDK's errors without it.
    """
    if _library(error):
        error.remedy += ", or set ansible_python_interpreter to a Python that has it"


def _message(error: StockyardError) -> str:
    """Return the text of the error. For a missing Python library it includes Ansible's own text."""
    library = _library(error)
    return f"{error} {missing_required_lib(library)}" if library else str(error)


def _library(error: StockyardError) -> str:
    """Return the Python package that is missing; empty if the error has another reason."""
    if not (isinstance(error, MissingDependency) and isinstance(error.__cause__, ImportError)):
        return ""
    return LIBRARIES.get((error.__cause__.name or "").partition(".")[0], "")


def _structured(error: StockyardError) -> Params:
    return {
        "kind": type(error).__name__,
        "object": error.name,
        "cause": error.cause,
        "remedy": error.remedy,
    }
