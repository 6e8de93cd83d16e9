# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A vCenter for a test: it starts the simulator, returns its address, inspects it and causes
faults.
"""

from __future__ import annotations

import http.client
import json
import secrets
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.vcsim import build, certificates

PATIENCE = 60
# Calls that leave the inventory as it is.
READING = {
    "CancelRetrievePropertiesEx",
    "CancelWaitForUpdates",
    "CheckInstantClone_Task",
    "CheckClone_Task",
    "ContinueRetrievePropertiesEx",
    "CreateContainerView",
    "CreateFilter",
    "CreateListView",
    "CreatePropertyCollector",
    "CurrentTime",
    "DestroyPropertyCollector",
    "DestroyPropertyFilter",
    "DestroyView",
    "Fetch",
    "FetchUserPrivilegeOnEntities",
    "FindAllByDnsName",
    "FindAllByUuid",
    "FindByInventoryPath",
    "FindByUuid",
    "FindChild",
    "HasPrivilegeOnEntities",
    "HasPrivilegeOnEntity",
    "HasUserPrivilegeOnEntities",
    "Login",
    "Logout",
    "ModifyListView",
    "QueryOptions",
    "RetrieveProperties",
    "RetrievePropertiesEx",
    "RetrieveServiceContent",
    "SearchDatastore_Task",
    "SessionIsActive",
    "WaitForUpdates",
    "WaitForUpdatesEx",
}
# The privileges that methods need here: a small part of a vCenter's.
GUARDED = {
    "VirtualMachine.Provisioning.Clone": ("InstantClone_Task", "CloneVM_Task"),
    "VirtualMachine.Inventory.Create": ("CreateVM_Task",),
    "VirtualMachine.Inventory.Delete": ("Destroy_Task",),
    "VirtualMachine.Config.AdvancedConfig": ("ReconfigVM_Task",),
    "VirtualMachine.Interact.PowerOn": ("PowerOnVM_Task",),
    "VirtualMachine.Interact.PowerOff": ("PowerOffVM_Task",),
    "VirtualMachine.Interact.Suspend": ("SuspendVM_Task",),
    "Folder.Create": ("CreateFolder",),
    "Resource.CreatePool": ("CreateResourcePool",),
}


# The machine that is there from the beginning.
SOURCE = "DC0_C0_RP0_VM0"


class Simulator:
    """One simulated vCenter with its guests. Use it in a ``with`` statement; ``README.md`` has its
    options.
    """

    def __init__(
        self,
        *,
        guests: bool = True,
        certificate: str = "good",
        directory: Path | None = None,
        **options: Any,
    ) -> None:
        self.address = "127.0.0.1"
        self.username = "tester@vsphere.local"
        self.password = f"{secrets.token_urlsafe(12)}'\"$x"
        self.port = 0
        self._with_guests = guests
        self._certificate = certificate
        self._options = {**DEFAULTS, **options}
        if unknown := set(options) - set(DEFAULTS):
            raise TypeError(f"a simulator has no option {sorted(unknown)}")
        self._own = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="vcsim-"))
        self._control = ""
        self._stubs: list[Any] = []
        self._process: subprocess.Popen[str] | None = None
        self._guests: subprocess.Popen[str] | None = None

    def __enter__(self) -> Simulator:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> Simulator:
        """Start it and its guests; it answers when this returns."""
        self.directory.mkdir(parents=True, exist_ok=True)
        certificate, key, authority = certificates.make(self.directory, self._certificate)
        self.ca_path = str(authority)
        options = {
            **self._options,
            "address": f"{self.address}:0",
            "certificate": str(certificate),
            "key": str(key),
            "username": self.username,
            "password": self.password,
        }
        (self.directory / "tmp").mkdir(exist_ok=True)
        environment = {
            "PATH": "/usr/bin:/bin",
            "TMPDIR": str(self.directory / "tmp"),
            "HOME": str(self.directory),
        }
        self._process = self._spawn([str(build.binary())], "vcsim.log", environment)
        announcement = json.loads(self._told(self._process, options))
        self.port = int(announcement["sdk"].rpartition(":")[2])
        self._control = announcement["control"]
        if self._with_guests:
            self.start_guests()
        return self

    def start_guests(self) -> None:
        """Start what answers in the guests."""
        argv = [sys.executable, "-m", "tests.vcsim.guests"]
        self._guests = self._spawn(argv, "guests.log", None)
        settings = {"control": self._control, "directory": str(self.directory / "guests")}
        self._told(self._guests, settings)

    def stop_guests(self) -> None:
        """Leave all guests without an agent."""
        _end(self._guests)
        self._guests = None

    def stop(self) -> None:
        """End everything and leave nothing."""
        for stub in self._stubs:
            stub.DropConnections()
        self.stop_guests()
        _end(self._process)
        self._process = None
        if self._own:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _spawn(
        self, argv: list[str], log: str, environment: dict[str, str] | None
    ) -> subprocess.Popen[str]:
        with (self.directory / log).open("a") as errors:
            return subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
                cwd=Path(__file__).parents[2],
            )

    def _told(self, process: subprocess.Popen[str], options: dict[str, Any]) -> str:
        """Hand a process its options, which are no argument's business, and read the line that says
        it is up.
        """
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(options) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            logs = "".join(path.read_text()[-2000:] for path in self.directory.glob("*.log"))
            raise RuntimeError(f"the simulator did not start: {logs}")
        return line

    @property
    def uri(self) -> str:
        """The hypervisor's, with no name and no password in it."""
        return self.uri_at(self.port)

    def uri_at(self, port: int) -> str:
        """The same behind another port."""
        place = (
            "ha-datacenter/localhost.localdomain"
            if self._options["product"] == "esx"
            else "DC0/DC0_C0"
        )
        return f"vsphere://{self.address}:{port}/{place}"

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables of a user of this vCenter."""
        return {
            "VMWARE_HOST": self.address,
            "VMWARE_PORT": str(self.port),
            "VMWARE_USER": self.username,
            "VMWARE_PASSWORD": self.password,
            "VMWARE_CA_PATH": self.ca_path,
            "VMWARE_VALIDATE_CERTS": "true",
        }

    def connect(self, port: int = 0) -> Any:
        """A plain pyvmomi service instance, to look at things with. It is hung up at the end."""
        from pyVim.connect import SmartStubAdapter
        from pyVmomi import vim

        context = ssl.create_default_context(cafile=self.ca_path)
        stub = SmartStubAdapter(host=self.address, port=port or self.port, sslContext=context)
        self._stubs.append(stub)
        instance: Any = vim.ServiceInstance("ServiceInstance", stub)
        instance.content.sessionManager.Login(self.username, self.password)
        return instance

    def find(self, path: str) -> Any:
        """A machine or a folder, by its path under the datacenter's folder for machines; nothing
        when there is none.
        """
        return self.connect().content.searchIndex.FindByInventoryPath(f"DC0/vm/{path}")

    def machines(self) -> dict[str, Any]:
        """All machines by name."""
        content = self.connect().content
        view = content.viewManager.CreateContainerView(
            content.rootFolder, [type(self.find(SOURCE))], True
        )
        return {machine.name: machine for machine in view.view}

    def clone(self, source: Any, name: str, folder: Any) -> Any:
        """Create an instant clone without stockyard."""
        from pyVmomi import vim

        where = vim.vm.RelocateSpec(folder=folder)
        spec = vim.vm.InstantCloneSpec(name=name, location=where)
        if source.runtime.powerState != "poweredOn":
            finished(source.PowerOnVM_Task())
        return finished(source.InstantClone_Task(spec))

    def populate(self, source: Any, clones: list[dict[str, str]]) -> None:
        """Make many instant clones fast, each of a ``name``, a ``uuid``, and one option: ``key``
        and ``value``.
        """
        self._ask("POST", "/clones", {"source": source._moId, "clones": clones})

    def clear(self, folder: Any) -> None:
        """Delete a folder with all its machines."""
        for machine in folder.childEntity:
            if machine.runtime.powerState == "poweredOn":
                finished(machine.PowerOffVM_Task())
            finished(machine.Destroy_Task())
        finished(folder.Destroy_Task())

    def prepare(self, name: str) -> None:
        """Make a machine one that linked clones can be made of: off, and with a snapshot."""
        machine = self.find(name)
        finished(machine.PowerOffVM_Task())
        finished(machine.CreateSnapshot_Task("base", "", False, False))

    def log(self) -> list[dict[str, Any]]:
        """Every call since the last reset, in order."""
        entries: list[dict[str, Any]] = self._ask("GET", "/log")
        return entries

    def calls(self) -> Counter[str]:
        """How often each method was called since the last reset."""
        return Counter(entry["method"] for entry in self.log())

    def changes(self) -> Counter[str]:
        """The same, of methods that change something."""
        return Counter(
            {method: count for method, count in self.calls().items() if method not in READING}
        )

    def reset(self) -> None:
        """Forget calls, faults and denials."""
        self._ask("POST", "/reset")

    def fail(
        self,
        method: str,
        fault: str,
        *,
        at: str = "",
        times: int = 1,
        skip: int = 0,
        **details: Any,
    ) -> None:
        """Let calls of a method end with a fault; for ever when ``times`` is 0."""
        where = at or ("task" if method.endswith("_Task") else "call")
        rule = {
            "method": method,
            "fault": fault,
            "at": where,
            "times": times,
            "skip": skip,
            **details,
        }
        self._ask("POST", "/rule", rule)

    def delay(self, method: str, seconds: float, times: int = 1, at: str = "call") -> None:
        """Let calls of a method wait before they are carried out, or their tasks, where ``at`` is
        ``task``.
        """
        self._ask("POST", "/rule", {"method": method, "at": at, "delay": seconds, "times": times})

    def deny(self, *privileges: str) -> None:
        """Remove privileges: queries report it, and calls that need them fail."""
        self._ask("POST", "/deny", list(privileges))
        for privilege in privileges:
            for method in GUARDED.get(privilege, ()):
                self.fail(method, "NoPermission", at="call", times=0, privilege=privilege)

    def fill(self, datastore: str) -> None:
        """Leave no space on a datastore."""
        self.resize_datastore(datastore, 0)
        for method in ("InstantClone_Task", "CloneVM_Task", "CreateVM_Task"):
            self.fail(method, "NoDiskSpace", times=0, datastore=datastore)

    def resize_datastore(self, datastore: str, free: int) -> None:
        """Set the free space of a datastore, in bytes."""
        self._ask("POST", "/datastore", {"name": datastore, "free": free})

    def drop_sessions(self) -> None:
        """End every session."""
        self._ask("POST", "/sessions/drop")

    def power(self, machine: str, state: str) -> None:
        """Set a machine's power state without stockyard: ``poweredOff``, ``poweredOn`` or
        ``suspended``.

        :param machine: its managed object ID.
        """
        self._ask("POST", "/power", {"machine": machine, "state": state})

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection(self._control, timeout=PATIENCE)
        try:
            connection.request(method, path, json.dumps(body))
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise ValueError(f"{path}: {text}")
        return json.loads(text)


DEFAULTS: dict[str, Any] = {
    "instant_clone": True,
    "clusters": 1,
    "hosts": 2,
    "datastores": 2,
    "networks": 1,
    "machines": 1,
    "api_version": "8.0.3.0",
    "product": "vcenter",
    "ignore_location": False,
}


def finished(task: Any) -> Any:
    """Return the result of a task of pyvmomi."""
    end = time.monotonic() + PATIENCE
    while task.info.state not in ("success", "error"):
        assert time.monotonic() < end
        time.sleep(0.005)
    assert task.info.state == "success", task.info.error
    return task.info.result


def _end(process: subprocess.Popen[str] | None) -> None:
    """End a child process by closing its standard input."""
    if process is None:
        return
    with process:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
