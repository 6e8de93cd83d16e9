# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attempts to get out of a container, or to use up its host: what is asked of dockerd, and what is
done inside.

Each attempt is made on a host that is shut and on one that is not, where it has to get through: one
that fails everywhere proves nothing.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import time
from pathlib import Path

from stockyard import HostInfo

from .conftest import Docker, ssh
from .elf import program

DENIED = b"authorization denied"
CLONE_NEWNS, CLONE_NEWUSER, S_IFBLK, O_WRONLY = 0x20000, 0x10000000, 0o060600, 1
# Refused options of `docker create` on a hostile host.
OPTIONS: dict[str, tuple[str, ...]] = {
    "a privileged container": ("--privileged",),
    "the host's processes": ("--pid=host",),
    "the host's shared memory": ("--ipc=host",),
    "the host's network": ("--network=host",),
    "the host's name": ("--uts=host",),
    "the host's users": ("--userns=host",),
    "the host's cgroups": ("--cgroupns=host",),
    "a capability": ("--cap-add=SYS_ADMIN",),
    "all capabilities": ("--cap-add=ALL",),
    "no seccomp": ("--security-opt=seccomp=unconfined",),
    "no AppArmor": ("--security-opt=apparmor=unconfined",),
    "bare /proc and /sys": ("--security-opt=systempaths=unconfined",),
    "the host's disk as a device": ("--device=/dev/vda",),
    "a rule for all devices": ("--device-cgroup-rule=a *:* rwm",),
    "the host's root as a volume": ("-v=/:/host",),
    "the host's root as a mount": ("--mount=type=bind,source=/,target=/host",),
    "Docker's socket": ("-v=/run/docker.sock:/docker.sock",),
    "a volume that is a mount of the host's root": (
        (
            "--mount=type=volume,source=trick,target=/x,"
            "volume-opt=type=none,volume-opt=o=bind,volume-opt=device=/"
        ),
    ),
    "another cgroup": ("--cgroup-parent=system.slice",),
    "to be spared when memory runs out": ("--oom-score-adj=-900",),
    "a kernel setting": ("--sysctl=kernel.msgmax=65536",),
    "a log that goes elsewhere": (
        "--log-driver=syslog",
        "--log-opt=syslog-address=udp://127.0.0.1:514",
    ),
}
# Other requests: the whole command. A request that reaches dockerd succeeded, whatever dockerd
# answers.
COMMANDS: dict[str, tuple[str, ...]] = {
    "a privileged program in a container": ("exec", "--privileged", "victim", "busybox", "true"),
    "a network on the host's own interface": (
        "network",
        "create",
        "-d",
        "macvlan",
        "-o",
        "parent=eth0",
        "wire",
    ),
    "a volume of the host's root": (
        "volume",
        "create",
        "-o",
        "type=none",
        "-o",
        "o=bind",
        "-o",
        "device=/",
        "rootfs",
    ),
    "docker plugin disable": ("plugin", "disable", "stockyard-authz"),
    "a plugin": ("plugin", "install", "--grant-all-permissions", "127.0.0.1:1/x"),
    "a cluster": ("swarm", "join", "--token", "x", "127.0.0.1:1"),
    "a build on the host's network": ("build", "--network=host", "-"),
}


def syscalls(disk: tuple[int, int]) -> dict[str, bytes]:
    """Programs, each of which does one thing that a container has no business with.

    :param disk: major and minor number of the host's disk.
    """
    device = disk[0] << 8 | disk[1]
    array = b"".join(n.to_bytes(4, "little") for n in (2, 4, 4, 1)) + b"\0" * 112
    now = int(time.time()).to_bytes(8, "little") + b"\0" * 8
    return {
        "mount": program(165, b"none\0", b"/mnt\0", b"tmpfs\0", 0, 0),
        "mount_name_space": program(272, CLONE_NEWNS),
        "user_name_space": program(272, CLONE_NEWUSER),
        "keyctl": program(250, 0, -3, 1),
        "add_key": program(248, b"user\0", b"x\0", b"x\0", 1, -3),
        "bpf": program(321, 0, array, 128),
        "perf": program(
            298, (1).to_bytes(4, "little") + (112).to_bytes(4, "little") + b"\0" * 104, 0, -1, -1, 0
        ),
        "clock_settime": program(227, 0, now),
        "init_module": program(175, b"junk", 4, b"\0"),
        "open_by_handle_at": program(304, -1, b"\x08\0\0\0\x01\0\0\0" + b"\0" * 8, 0),
        "mknod_disk": program(133, b"/disk\0", S_IFBLK, device),
        "open_disk": program(2, b"/disk\0", 0, 0),
        "core_pattern": program(2, b"/proc/sys/kernel/core_pattern\0", O_WRONLY, 0),
        "sysrq": program(2, b"/proc/sysrq-trigger\0", O_WRONLY, 0),
        "write_sys": program(2, b"/sys/class/net/lo/mtu\0", O_WRONLY, 0),
        "lift_own_limit": program(2, b"/sys/fs/cgroup/pids.max\0", O_WRONLY, 0),
        "host_file_by_proc": program(2, b"/proc/1/root/etc/stockyard/stunnel.conf\0", 0, 0),
        "ptrace_init": program(101, 0x4206, 1, 0, 0),
        "dev_mem": program(2, b"/dev/mem\0", 0, 0),
        "reboot": program(169, 0xFEE1DEAD, 672274793, 0, 0),
        "sethostname": program(170, b"x", 1),
        "iopl": program(172, 3),
        "kernel_log": program(103, 3, b"\0" * 256, 256),
        "userfaultfd": program(323, 0),
        "fanotify": program(300, 0, 0),
        "priority": program(141, 0, 0, -10),
        "swapon": program(167, b"/nothing\0", 0),
    }


# Names without a program, which the shell looks at.
LOOKS = {"guest_channel": "set -- /dev/vport*; [ -e $1 ]", "disk_device": "[ -b /dev/vda ]"}
# Error numbers of calls that were let in and found nothing to do: a bad module, handle or file.
LET_IN = {"init_module": {8}, "open_by_handle_at": {9, 22}, "swapon": {2}}
SETUID = program(105, 0)
# MiB a second that containers may send, all together, and how many MiB are sent.
RATE, FLOOD = 1, 8
# The host, as containers on the default network find it.
BRIDGE = "172.17.0.1"


def image(busybox: Path, disk: tuple[int, int]) -> bytes:
    """The attackers' image, as an archive."""
    files = {
        "bin/busybox": busybox.read_bytes(),
        "setuid": SETUID,
        "run.sh": _script(disk).encode(),
    }
    files |= {f"a/{name}": data for name, data in syscalls(disk).items()}
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for folder in ("a", "bin", "mnt", "tmp", "proc", "sys", "dev"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o4755 if name == "setuid" else 0o755
            archive.addfile(entry, io.BytesIO(data))
        for name in (
            "sh",
            "sleep",
            "true",
            "cat",
            "dd",
            "nc",
            "wget",
            "httpd",
            "timeout",
            "fallocate",
            "mkdir",
        ):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return target.getvalue()


def _script(disk: tuple[int, int]) -> str:
    lines = [f"/a/{name}; echo {name} $?" for name in syscalls(disk)]
    return "\n".join([*lines, *(f"{test}; echo {name} $?" for name, test in LOOKS.items())]) + "\n"


def disk_of(host: HostInfo) -> tuple[int, int]:
    """Major and minor number of a host's disk."""
    major, minor = ssh(host, "stat -c '%t %T' /dev/vda").stdout.split()
    return int(major, 16), int(minor, 16)


def ask(host: HostInfo, docker: Docker) -> dict[str, bool]:
    """Which requests got through."""
    outcomes = {}
    for number, (name, options) in enumerate(OPTIONS.items()):
        result = docker(
            host, "create", "--name", f"try-{number}", *options, "attacks", "true", check=False
        )
        outcomes[name] = result.returncode == 0
    for name, command in COMMANDS.items():
        text = b"FROM scratch\n" if command[0] == "build" else None
        outcomes[name] = DENIED not in docker(host, *command, stdin=text, check=False).stderr
    docker(host, "rm", "-fv", *(f"try-{n}" for n in range(len(OPTIONS))), check=False)
    docker(host, "volume", "rm", "trick", "rootfs", check=False)
    docker(host, "network", "rm", "wire", check=False)
    return outcomes


def try_inside(host: HostInfo, docker: Docker, *options: str) -> dict[str, bool]:
    """Which system calls and looks were let through in a container."""
    lines = (
        docker(host, "run", "--rm", *options, "attacks", "sh", "/run.sh")
        .stdout.decode()
        .splitlines()
    )
    codes = {name: int(code) for name, code in map(str.split, lines)}
    outcomes = {name: code in {0, *LET_IN.get(name, ())} for name, code in codes.items()}
    plain = docker(host, "run", "--rm", "--user", "1000", "attacks", "/setuid", check=False)
    return {**outcomes, "setuid": plain.returncode == 0}


def address(host: HostInfo, docker: Docker, name: str) -> str:
    """A container's address."""
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    return docker(host, "inspect", "-f", form, name).stdout.decode().strip()


def use_up(host: HostInfo, docker: Docker) -> dict[str, bool]:
    """Which bombs went off."""
    count = "i=0; while [ $i -lt 560 ]; do sleep 1000 & i=$((i+1)); done; echo all"
    return {
        "fork bomb": b"all"
        in docker(host, "run", "--rm", "attacks", "sh", "-c", count, check=False).stdout,
        "memory bomb": docker(
            host,
            "run",
            "--rm",
            "attacks",
            "dd",
            "if=/dev/zero",
            "of=/dev/null",
            "bs=600M",
            "count=1",
            check=False,
        ).returncode
        == 0,
        "flood": flood(host, docker) > 1.25 * RATE,
        **use_up_disk(host, docker),
    }


def reach(host: HostInfo, docker: Docker, outside: dict[str, tuple[str, int]]) -> dict[str, bool]:
    """Return the peers that answer a container: its neighbour, its host, and networks beyond.

    :param outside: addresses and ports, by a name.
    """
    victim = address(host, docker, "victim")
    own = {"the host's SSH": (BRIDGE, 22), "the host's Docker": (BRIDGE, 2376)}
    targets = {"neighbour": (victim, 80), **own, **outside}
    tries = {
        "a raw packet to a neighbour": f"busybox ping -c 2 -W 8 {victim}",
        "a frame to a neighbour": f"busybox arping -c 3 -w 8 -I eth0 {victim}",
        **{
            name: f"echo | timeout 10 nc -w 8 {target} {port}"
            for name, (target, port) in targets.items()
        },
    }
    script = "".join(
        f"({line} >/dev/null 2>&1; echo {number} $?) &\n"
        for number, line in enumerate(tries.values())
    )
    lines = (
        docker(host, "run", "--rm", "attacks", "sh", "-c", script + "wait")
        .stdout.decode()
        .splitlines()
    )
    codes = dict(map(str.split, lines))
    return {name: codes[str(number)] == "0" for number, name in enumerate(tries)}


def use_up_disk(host: HostInfo, docker: Docker) -> dict[str, bool]:
    """Whether a container takes the space and the inodes that the host itself lives on."""
    before = _left(host)
    script = (
        "mkdir -p $(busybox seq -s / 1 800); mkdir wide; cd wide; mkdir $(busybox seq 1 2000); "
        "fallocate -l 20G /x"
    )
    docker(host, "run", "--name", "hog", "attacks", "sh", "-c", script, check=False)
    after = _left(host)
    docker(host, "rm", "-f", "hog")
    return {
        "disk filler": after["avail"] < before["avail"] // 10,
        "recursive mkdir": before["iavail"] - after["iavail"] >= 2800,
    }


def _left(host: HostInfo) -> dict[str, int]:
    """Return the free MiB and inodes of the host's disk."""
    sizes = ssh(host, "df --block-size=1M --output=avail,iavail / | tail -n 1").stdout.split()
    return dict(zip(("avail", "iavail"), map(int, sizes), strict=True))


def flood(host: HostInfo, docker: Docker) -> float:
    """MiB a second from one container to another on a network of their own.

    By HTTP, which says itself how much there is: neither end of a bare connection tells when all
    has come.
    """
    docker(host, "network", "create", "both")
    serve = f"dd if=/dev/zero of=/big bs=1M count={FLOOD} && echo > /ready && httpd -f -p 99"
    docker(
        host,
        "run",
        "-d",
        "--rm",
        "--name",
        "source",
        "--network",
        "both",
        "attacks",
        "sh",
        "-c",
        serve,
    )
    place = f"http://{address(host, docker, 'source')}:99"
    ready = f"timeout 5 wget -q -O /dev/null {place}/ready"
    wait = f"for i in $(busybox seq 20); do {ready} && break; sleep 1; done 2>/dev/null"
    fetch = f"timeout 90 wget -q -O /dev/null {place}/big"
    get = f"{wait}; cat /proc/uptime; {fetch}; echo $?; cat /proc/uptime"
    words = docker(
        host, "run", "--rm", "--network", "both", "attacks", "sh", "-c", get, timeout=600
    ).stdout.split()
    docker(host, "rm", "-f", "source", check=False)
    docker(host, "network", "rm", "both", check=False)
    print("flood:", words)
    assert len(words) == 5, words
    return FLOOD / max(0.1, float(words[3]) - float(words[0])) if words[2] == b"0" else 0.0


def fill(host: HostInfo, docker: Docker) -> bool:
    """Fill the disk of the containers; return whether it is free after the deletion of the
    container.
    """
    line = "fallocate -l 20G /x; dd if=/dev/zero of=/y bs=1M"
    docker(host, "run", "--name", "filler", "attacks", "sh", "-c", line, check=False)
    docker(host, "rm", "-f", "filler")
    docker(host, "run", "--rm", "attacks", "dd", "if=/dev/zero", "of=/own", "bs=1M", "count=8")
    return (
        ssh(
            host, "sudo dd if=/dev/zero of=/var/tmp/own bs=1M count=8 && sudo rm /var/tmp/own"
        ).returncode
        == 0
    )


def uid_map(host: HostInfo, docker: Docker, name: str) -> list[int]:
    """The first line of a container's user mapping: inside, outside, count."""
    pid = json.loads(docker(host, "inspect", name).stdout)[0]["State"]["Pid"]
    result: subprocess.CompletedProcess[str] = ssh(host, f"sudo cat /proc/{pid}/uid_map")
    return [int(word) for word in result.stdout.split()[:3]]
