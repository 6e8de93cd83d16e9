# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lower bound of a fork: QEMU alone resumes the same frozen state.

The template of a bench run differs from others in one point: systemd's socket proxy in front of
Docker's socket, on a port that the product never forwards, so that a bare resumed guest answers
plain HTTP.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from stockyard import TemplateInfo, Yard
from stockyard.providers.libvirt.designer import private_mapping
from stockyard.providers.libvirt.network import NOWHERE

TEMPLATE = "bench"
PORT = 2375
ADDRESS = "127.63.0.1"
FILES = {
    "/etc/systemd/system/bench-plain.socket": f"[Socket]\nListenStream={PORT}\n",
    "/etc/systemd/system/bench-plain.service": (
        "[Unit]\nRequires=bench-plain.socket docker.service\nAfter=bench-plain.socket "
        "docker.service\n"
        "[Service]\nExecStartPre=ip addr add 10.0.2.15/24 dev eth0\nExecStartPre=ip link set eth0 "
        "up\n"
        "ExecStart=/lib/systemd/systemd-socket-proxyd /run/docker.sock\n"
    ),
    "/etc/systemd/system/multi-user.target.d/bench.conf": "[Unit]\nWants=bench-plain.service\n",
}
QMP = "{http://libvirt.org/schemas/domain/qemu/1.0}"


def seconds(yard: Yard, template: TemplateInfo, work: Path) -> float:
    """Return the seconds from the start of QEMU to the answer of `/_ping`."""
    folder = Path(template.storage) / "templates" / template.uuid
    overlay = work / "floor.qcow2"
    create = [
        "qemu-img",
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "qcow2",
        "-b",
        str(folder / "disk.qcow2"),
        str(overlay),
    ]
    subprocess.run(create, check=True)
    # The path of a socket has at most 107 bytes (unix(7)); the work directory's may have more.
    with (
        tempfile.TemporaryDirectory(prefix="floor-") as sockets,
        (folder / "state").open("rb") as state,
    ):
        monitor = Path(sockets, "qmp")
        argv = bare(yard, template, folder, overlay, monitor)
        begin = time.monotonic()
        process = subprocess.Popen([*argv, "-incoming", "defer"], pass_fds=[state.fileno()])
        try:
            resume(monitor, state.fileno())
            until_ping()
            return time.monotonic() - begin
        finally:
            process.kill()
            process.wait()
            overlay.unlink()


def bare(
    yard: Yard, template: TemplateInfo, folder: Path, overlay: Path, monitor: Path
) -> list[str]:
    """Return QEMU's arguments for a fork of this template: those of libvirt, without the ones that
    only libvirt needs.
    """
    # the bench is about this provider
    connection = yard.context.provider.connection  # type: ignore[attr-defined]
    domain = connection.lookupByUUIDString(template.uuid)
    root = ElementTree.fromstring(domain.XMLDesc(0))  # noqa: S314  # libvirt's own text
    hardware = template.hardware
    for disk in root.findall("./devices/disk"):
        for source in disk.findall("source"):
            source.set("file", str(overlay))
        for readonly in disk.findall("readonly"):
            disk.remove(readonly)
    for argument in root.iter(f"{QMP}arg"):
        # The template's network card has no network.
        if argument.get("value") == NOWHERE:
            argument.set(
                "value", f"user,id=net0,restrict=on,ipv6=off,hostfwd=tcp:{ADDRESS}:{PORT}-:{PORT}"
            )
    text = connection.domainXMLToNative(
        "qemu-argv", ElementTree.tostring(root, encoding="unicode"), 0
    )
    argv = unfolded(text, monitor)
    size, path = f"{hardware.memory_mib}M", folder / "ram"
    # As forks have it: QEMU 8.2 and later map a read-only file.
    mapping = private_mapping(read_only=not os.access(path, os.W_OK)).value
    ram = f"memory-backend-file,id=ram0,size={size},mem-path={path},{mapping}"
    return [*argv, "-object", ram, "-machine", "memory-backend=ram0"]


def unfolded(text: str, monitor: Path) -> list[str]:
    """Return libvirt's command line as arguments: without environment, secret and sandbox, and with
    different sockets.
    """
    words = [word for word in shlex.split(text) if not word.startswith("LC_ALL=")]
    words = words[
        next(number for number, word in enumerate(words) if word.endswith("qemu-system-x86_64")) :
    ]
    argv = words[:1]
    words_after = iter(words[1:])
    for word in words_after:
        if word in ("-object", "-sandbox", "-chardev", "-add-fd"):
            value = next(words_after)
            argv += kept(word, value, monitor)
        else:
            argv.append(word)
    return argv


def kept(option: str, value: str, monitor: Path) -> list[str]:
    """Return one option with its value, changed or left out."""
    if option in ("-sandbox", "-add-fd") or '"secret"' in value:
        return []
    if option == "-chardev":
        name = value.split("id=")[1].split(",", maxsplit=1)[0]
        path = monitor if name == "charmonitor" else monitor.with_suffix(f".{name}")
        value = (
            f"null,id={name}"
            if "charserial" in name
            else f"socket,id={name},path={path},server=on,wait=off"
        )
    return [option, value]


def resume(monitor: Path, state: int) -> None:
    """Send the minimum of QMP commands for a resume."""
    with qmp(monitor) as execute:
        execute("qmp_capabilities")
        capability = {"capability": "x-ignore-shared", "state": True}
        execute("migrate-set-capabilities", {"capabilities": [capability]})
        execute("migrate-incoming", {"uri": f"fd:{state}"})
        while execute("query-migrate").get("status") != "completed":
            time.sleep(0.002)
        execute("cont")
        execute("set_link", {"name": "nic0", "up": True})
        execute("announce-self", {"initial": 20, "max": 200, "rounds": 3, "step": 60})


@contextmanager
def qmp(path: Path) -> Iterator[Callable[..., Any]]:
    """Yield a function that executes commands in a QMP session."""
    with socket.socket(socket.AF_UNIX) as sock:
        while True:
            try:
                sock.connect(str(path))
                break
            except OSError:
                time.sleep(0.002)
        lines = sock.makefile("rw", encoding="utf-8")
        lines.readline()

        def execute(command: str, arguments: dict[str, Any] | None = None) -> Any:
            lines.write(json.dumps({"execute": command, "arguments": arguments or {}}) + "\n")
            lines.flush()
            while True:
                reply = json.loads(lines.readline())
                if "error" in reply:
                    raise RuntimeError(reply["error"])
                if "return" in reply:
                    return reply["return"]

        yield execute


def until_ping() -> None:
    """Wait until `/_ping` is answered."""
    end = time.monotonic() + 60
    while True:
        connection = http.client.HTTPConnection(ADDRESS, PORT, timeout=1)
        try:
            connection.request("GET", "/_ping")
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        finally:
            connection.close()
