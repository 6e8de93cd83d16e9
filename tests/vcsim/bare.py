# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a provider is measured against: a loop of plain pyvmomi that makes the same calls and does nothing else.

The guests do the same work as for a host: they answer the same requests. Only what is signed for them is not.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pyVmomi import vim, vmodl

from stockyard.guest.agent.guestinfo import ANSWER, PREFIX, REQUEST, pack
from tests.vcsim.simulator import Simulator, finished

PEM = "-----BEGIN CERTIFICATE-----\n" + "x" * 900 + "\n-----END CERTIFICATE-----\n"
RECORD = "x" * 900
MACHINE = ("name", "config.extraConfig", "config.changeVersion", "runtime.powerState", "config.uuid")


class Worker:
    """One thread's own way of waiting for tasks."""

    def __init__(self, content: Any) -> None:
        self.content = content
        self.collector = content.propertyCollector.CreatePropertyCollector()
        self.view = content.viewManager.CreateListView([])
        query = vmodl.query.PropertyCollector
        walk = query.TraversalSpec(name="view", path="view", skip=False, type=vim.view.ListView)
        objects = [query.ObjectSpec(obj=self.view, skip=True, selectSet=[walk])]
        wanted = [query.PropertySpec(type=vim.Task, pathSet=["info.state"], all=False)]
        self.collector.CreateFilter(query.FilterSpec(objectSet=objects, propSet=wanted), True)
        self.version = ""
        self.last: list[Any] = []

    def wait(self, task: Any) -> None:
        """Wait for the end of one task."""
        self.view.ModifyListView([task], self.last)
        self.last = [task]
        options = vmodl.query.PropertyCollector.WaitOptions(maxWaitSeconds=5)
        state = ""
        while state not in ("success", "error"):
            update = self.collector.WaitForUpdatesEx(self.version, options)
            if update:
                self.version = update.version
                changed = [o for f in update.filterSet for o in f.objectSet if o.obj == task]
                state = next((c.val for o in changed for c in o.changeSet or []), state)
        assert state == "success"

    def read(self, machine: Any, paths: Sequence[str] = MACHINE) -> dict[str, Any]:
        """Some properties of a machine, in one call."""
        query = vmodl.query.PropertyCollector
        objects = [query.ObjectSpec(obj=machine, skip=False)]
        wanted = [query.PropertySpec(type=vim.VirtualMachine, pathSet=list(paths), all=False)]
        spec = [query.FilterSpec(objectSet=objects, propSet=wanted)]
        answer = self.content.propertyCollector.RetrievePropertiesEx(spec, query.RetrieveOptions())
        return {p.name: p.val for p in answer.objects[0].propSet}

    def write(self, machine: Any, **values: str) -> None:
        """Set options of a machine."""
        options = [vim.option.OptionValue(key=key, value=value) for key, value in values.items()]
        self.wait(machine.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=options)))

    def ask(self, machine: Any, message: dict[str, Any]) -> None:
        """Have a guest do something, and read its answer."""
        number = uuid.uuid4().hex
        self.write(machine, **{PREFIX + REQUEST: pack({**message, "id": number})})
        while True:
            options = {o.key: o.value for o in self.read(machine, ["config.extraConfig"])["config.extraConfig"]}
            answer = options.get(PREFIX + ANSWER, "-")
            if answer != "-" and (found := json.loads(base64.b64decode(answer)))["id"] == number:
                assert found["ok"], found
                return
            time.sleep(0.005)


class Loop:
    """Makes machines of one source."""

    def __init__(self, vcenter: Simulator, source: str, parallel: int) -> None:
        self.parallel = parallel
        self.content = vcenter.connect().content
        folder = self.content.rootFolder.childEntity[0].vmFolder
        self.folder = folder.CreateFolder(f"bare-{uuid.uuid4().hex[:8]}")
        self.source = self.content.searchIndex.FindByInventoryPath(source)
        self._own = threading.local()
        self._numbers = itertools.count(1)

    def register(self) -> Any:
        """A machine whose options are written for each host that is made."""
        pool = self.source.resourcePool
        files = vim.vm.FileInfo(vmPathName="[LocalDS_0]")
        spec = vim.vm.ConfigSpec(name="register", files=files, guestId="otherGuest")
        return finished(self.folder.CreateVM_Task(spec, pool))

    def make(self, count: int, calls: Counter[str], log: Sequence[dict[str, Any]], register: str) -> float:
        """Make so many machines with as many calls for each as were made before; returns the seconds."""
        own = sum(e["object"] == register for e in log if e["method"] == "ReconfigVM_Task")
        plan = {
            "register": round(own / count), "reconfig": round((calls["ReconfigVM_Task"] - own) / count),
            "read": round(calls["RetrievePropertiesEx"] / count), "find": round(calls["FindChild"] / count),
        }  # fmt: skip
        target = self.register()
        begin = time.monotonic()
        with ThreadPoolExecutor(self.parallel) as pool:
            list(pool.map(lambda _each: self._one(plan, target), range(count)))
        return time.monotonic() - begin

    def _one(self, plan: dict[str, int], register: Any) -> None:
        if not hasattr(self._own, "worker"):
            self._own.worker = Worker(self.content)
        mine: Worker = self._own.worker
        number = next(self._numbers)
        mine.write(register, **{f"host{number}": RECORD})
        for _each in range(plan["find"]):
            self.content.searchIndex.FindChild(self.folder, f"bare-{number}")
        spec = vim.vm.InstantCloneSpec(name=f"bare-{number}", location=vim.vm.RelocateSpec(folder=self.folder))
        spec.config = [vim.option.OptionValue(key="record", value=RECORD)]
        mine.wait(self.source.InstantClone_Task(spec))
        machine = self.content.searchIndex.FindChild(self.folder, f"bare-{number}")
        requests = (identify(machine), admit(), {"op": "settle"})
        for message in requests:
            mine.ask(machine, message)
        _repeat(plan["register"] - 1, lambda: mine.write(register, **{f"host{number}": "-"}))
        _repeat(plan["reconfig"] - len(requests), lambda: mine.write(machine, record=RECORD))
        _repeat(plan["read"] - len(requests), lambda: mine.read(machine))


def _repeat(count: int, call: Callable[[], object]) -> None:
    for _each in range(count):
        call()


def identify(machine: Any) -> dict[str, Any]:
    """What a controller tells a guest of itself."""
    network = {"interface": "ens192", "mac": "00:50:56:00:00:01", "address": "127.64.0.1", "netmask": "255.0.0.0"}
    return {
        "op": "identify", "entropy": base64.b64encode(os.urandom(64)).decode(), "time": time.time(),
        "uuid": str(uuid.uuid4()), "hostname": machine._moId, "machine_id": uuid.uuid4().hex,
        "network": {**network, "gateway": ""}, "authorized_keys": ["ssh-ed25519 " + "A" * 68],
        "engine_identity": "shared",
    }  # fmt: skip


def admit() -> dict[str, Any]:
    """A certificate, its authority and what that revoked, of the usual length."""
    return {"op": "admit", "ca": PEM, "certificate": PEM, "crl": PEM}
