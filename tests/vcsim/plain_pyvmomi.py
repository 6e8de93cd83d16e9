# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reference for the speed of the provider: a loop of plain pyvmomi with the same calls and the
same reads.

The guests do the same work as for a host: they answer the same requests. Only certificates are not
signed for them.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pyVmomi import vim, vmodl

from stockyard.guest.agent.guestinfo import ANSWER, PREFIX, REQUEST, SPENT, pack
from stockyard.providers.vsphere.guestinfo import LOOKED_AT
from stockyard.providers.vsphere.inventory import PROPERTIES, device
from stockyard.providers.vsphere.records import OPTIONS, option
from stockyard.providers.vsphere.task import PROPERTIES as TASK
from tests.vcsim.simulator import Simulator, finished

PEM = "-----BEGIN CERTIFICATE-----\n" + "x" * 900 + "\n-----END CERTIFICATE-----\n"
RECORD = "x" * 900
# Properties that are read after a fork; the number is that of the first network card of a machine.
VERIFIED = (*PROPERTIES, device(4000), "parent", "resourcePool")
# Calls that look at things, or wait for them.
LOOKS = ("RetrievePropertiesEx", "ModifyListView", "WaitForUpdatesEx")
# Seconds before each look.
LOOK = 0.03


class Worker:
    """Calls, and the waits for what becomes of them."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def wait(self, task: Any, *additional: tuple[Any, Sequence[str]]) -> Any:
        """Wait for the end of one task, which is short here and seldom polled twice; return its
        state.

        :param additional: additional objects and properties to read.
        """
        while True:
            time.sleep(LOOK)
            state = self.read((task, TASK), *additional)[task]
            if state["info.state"] in ("success", "error"):
                assert state["info.state"] == "success"
                return state.get("info.result")

    def read(self, *objects_and_paths: tuple[Any, Sequence[str]]) -> dict[Any, dict[str, Any]]:
        """Some properties of some objects, in one call."""
        query = vmodl.query.PropertyCollector
        property_specs = [
            query.PropertySpec(type=type(managed_object), pathSet=list(paths))
            for managed_object, paths in objects_and_paths
        ]
        objects = [
            query.ObjectSpec(obj=managed_object) for managed_object, _paths in objects_and_paths
        ]
        spec = [query.FilterSpec(objectSet=objects, propSet=property_specs)]
        answer = self.content.propertyCollector.RetrievePropertiesEx(spec, query.RetrieveOptions())
        return {o.obj: {p.name: p.val for p in o.propSet} for o in answer.objects}

    def write(self, machine: Any, **values: str) -> Any:
        """Set options of a machine; returns the task."""
        options = [vim.option.OptionValue(key=key, value=value) for key, value in values.items()]
        return machine.ReconfigVM_Task(vim.vm.ConfigSpec(extraConfig=options))

    def ask(self, machine: Any, message: dict[str, Any]) -> None:
        """Have a guest do something, and read its answer: that it is there says that the question
        was.
        """
        number = uuid.uuid4().hex
        values = {PREFIX + REQUEST: pack({**message, "id": number}), PREFIX + ANSWER: SPENT}
        task, path = self.write(machine, **values), option(PREFIX + ANSWER)
        while True:
            time.sleep(LOOK)
            value = self.read((machine, LOOKED_AT), (task, TASK))[machine].get(path)
            answer = value.value if value else SPENT
            if (
                answer != SPENT
                and (envelope := json.loads(base64.b64decode(answer)))["id"] == number
            ):
                assert envelope["ok"], envelope
                return


class Loop:
    """Makes machines of one source."""

    def __init__(self, vcenter: Simulator, source: str, parallel: int) -> None:
        self.parallel = parallel
        self.content = vcenter.connect().content
        folder = self.content.rootFolder.childEntity[0].vmFolder
        self.folder = folder.CreateFolder(f"bare-{uuid.uuid4().hex[:8]}")
        self.source = self.content.searchIndex.FindByInventoryPath(source)
        self._numbers = itertools.count(1)

    def register(self) -> Any:
        """A machine whose options are written for each host that is made."""
        pool = self.source.resourcePool
        files = vim.vm.FileInfo(vmPathName="[LocalDS_0]")
        spec = vim.vm.ConfigSpec(name="register", files=files, guestId="otherGuest")
        return finished(self.folder.CreateVM_Task(spec, pool))

    def make(
        self, count: int, calls: Counter[str], log: Sequence[dict[str, Any]], register: str
    ) -> float:
        """Make so many machines with as many calls for each as were made before; returns the
        seconds.
        """
        own = sum(e["object"] == register for e in log if e["method"] == "ReconfigVM_Task")
        tasks = count + calls["ReconfigVM_Task"] - 3 * count
        plan = {
            "register": own / count,
            "reconfig": (calls["ReconfigVM_Task"] - own) / count - 3,
            # The properties read with the answers; the properties of tasks replace those of clones.
            "read": (sum(calls[name] for name in LOOKS) - tasks) / count - 3,
            "find": calls["FindChild"] / count,
        }
        target = self.register()
        begin = time.monotonic()
        with ThreadPoolExecutor(self.parallel) as pool:
            list(pool.map(lambda _number: self._one(plan, target), range(count)))
        return time.monotonic() - begin

    def _one(self, plan: dict[str, float], register: Any) -> None:
        worker, number = Worker(self.content), next(self._numbers)

        def due(step: str) -> range:
            """How many of something this one makes, so that all together make as many as they
            should.
            """
            return range(max(0, int(number * plan[step]) - int((number - 1) * plan[step])))

        for _turn in due("register"):
            worker.wait(
                worker.write(register, **{f"host{number}": RECORD}),
                (register, (*PROPERTIES, OPTIONS)),
            )
        for _turn in due("find"):
            self.content.searchIndex.FindChild(self.folder, f"bare-{number}")
        spec = vim.vm.InstantCloneSpec(
            name=f"bare-{number}", location=vim.vm.RelocateSpec(folder=self.folder)
        )
        spec.config = [vim.option.OptionValue(key="record", value=RECORD)]
        machine = worker.wait(self.source.InstantClone_Task(spec))
        for message in (identify(machine), admit(), {"op": "settle"}):
            worker.ask(machine, message)
        for _turn in due("reconfig"):
            worker.wait(worker.write(machine, record=RECORD))
        for _turn in due("read"):
            worker.read((machine, VERIFIED))


def identify(machine: Any) -> dict[str, Any]:
    """Return the identity request of a controller."""
    network = {
        "interface": "ens192",
        "mac": "00:50:56:00:00:01",
        "address": "127.64.0.1",
        "netmask": "255.0.0.0",
    }
    return {
        "op": "identify",
        "entropy": base64.b64encode(os.urandom(64)).decode(),
        "time": time.time(),
        "uuid": str(uuid.uuid4()),
        "hostname": machine._moId,
        "machine_id": uuid.uuid4().hex,
        "network": {**network, "gateway": ""},
        "authorized_keys": ["ssh-ed25519 " + "A" * 68],
        "engine_identity": "shared",
    }


def admit() -> dict[str, Any]:
    """A certificate, its authority and what that revoked, of the usual length."""
    return {"op": "renew-certificate", "ca": PEM, "certificate": PEM, "crl": PEM}
