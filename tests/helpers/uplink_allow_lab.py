# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Uplinks with ``egress: allow`` in the namespaces of :mod:`.uplink_lab`.

A program on the other machines and one on the hypervisor record the first bytes of each connection.
The attacks are repeated on an uplink whose rules, name server and HAProxy permit everything.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from stockyard.providers.libvirt import uplink, uplink_allow_rules, uplink_names, uplink_rules

from . import uplink_lab
from .uplink_allow_attacks import (
    ALLOWED,
    EVIL,
    GOOD,
    INNER,
    LISTED,
    NAMES,
    PACKETS,
    PERMITTED,
    PRIVATE,
    REGISTRY,
    ZONE,
    frames,
    target,
)
from .uplink_lab import NAME_SERVER, Guest, inside, opened, other_namespace

# Seconds for which addresses of the name server are valid, and accepted in addition.
TTL, GRACE = 2, 1
# Records the bytes of all connections, and answers like a web server.
RECORDER = """
import json, socket, socketserver, sys, threading
lock = threading.Lock()
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        address = self.request.getsockname()[0]
        while data := self.request.recv(65536):
            with lock:
                print(json.dumps([address, data.hex()]), flush=True)
            if b"HTTP/1" in data:
                self.request.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
            elif data[:1] != b"\\x16":
                self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
servers = [Server(("0.0.0.0", port), Handler) for port in map(int, sys.argv[1:])]
for server in servers:
    threading.Thread(target=server.serve_forever).start()
"""
# Answers from a zone over UDP and TCP, and prints each question.
NAMES_PROGRAM = f"""
import json, socket, struct, sys, threading
zone, ttl = json.loads(sys.argv[1]), int(sys.argv[2])
def encoded(name):
    return b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + b"\\0"
def answer(question):
    print(question.hex(), flush=True)
    place, labels = 12, []
    while question[place]:
        labels.append(question[place + 1 : place + 1 + question[place]].decode())
        place += 1 + question[place]
    name, records = ".".join(labels), []
    while name in zone:
        owner, name = name, zone[name]
        if name.replace(".", "").isdigit():
            kind, text = 1, socket.inet_aton(name)
        else:
            kind, text = 5, encoded(name)
        records.append(encoded(owner) + struct.pack("!HHIH", kind, 1, ttl, len(text)) + text)
    code = 0 if records else 3
    head = question[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(records), 0, 0)
    return head + question[12 : place + 5] + b"".join(records)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(({NAME_SERVER!r}, 53))
print(flush=True)
while True:
    question, guest = udp.recvfrom(4096)
    udp.sendto(answer(question), guest)
"""
# Seconds of an attack, and of a connection or an arrival that a test expects.
ATTACK, EXPECTED = 3, 20
# Runs in the guest: connects and sends, all at once.
CLIENT = """
import json, socket, sys, threading
def run(address, port, parts, seconds):
    try:
        with socket.create_connection((address, port), seconds) as stream:
            stream.settimeout(min(seconds, 8))
            for part in parts:
                stream.sendall(bytes.fromhex(part))
                stream.recv(4096)
    except OSError:
        pass
threads = [threading.Thread(target=run, args=entry) for entry in json.loads(sys.argv[1])]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
ASK = """
import json, socket, struct, sys
name, kind, way, address, extra = json.loads(sys.argv[1])
text = b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + b"\\0"
question = struct.pack("!HHHHHH", 77, 0x100, 1, 0, 0, bool(extra)) + text
question += struct.pack("!HH", kind, 1) + extra.encode()
try:
    if way == "udp":
        asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        asked.settimeout(5)
        asked.sendto(question, (address, 53))
        reply = asked.recv(4096)
    else:
        asked = socket.create_connection((address, 53), 5)
        asked.sendall(struct.pack("!H", len(question)) + question)
        reply = asked.recv(4096)[2:]
    count = struct.unpack("!H", reply[6:8])[0]
    found = [socket.inet_ntoa(reply[len(reply) - 16 * n - 4 :][:4]) for n in range(count)]
    print(json.dumps([reply[3] & 15, found, struct.unpack("!I", reply[-10:-6])[0] if count else 0]))
except OSError as error:
    print(json.dumps(str(error)))
"""


class Recorder:
    """The bytes that arrived at machines, each with the machine's address."""

    def __init__(self, arguments: list[str]) -> None:
        self.lines: list[tuple[str, bytes]] = []
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        stream: Any = self.process.stdout
        for line in stream:
            with suppress(ValueError):
                address, data = json.loads(line)
                self.lines.append((address, bytes.fromhex(data)))

    def arrived(self, token: bytes, address: str) -> bool:
        """Return whether bytes arrived, at one address or at any."""
        return any(token in data and address in ("", place) for place, data in self.lines)


class Machines:
    """All other machines, the hypervisor's services, and its name server."""

    def __init__(self, far_side: int, zone: dict[str, str], ports: Sequence[int]) -> None:
        self.far_side = far_side
        uplink_lab.build_hypervisor(far_side)
        for address in (EVIL, REGISTRY, LISTED, INNER, PRIVATE):
            self.add(address)
        program = [sys.executable, "-c", RECORDER, *map(str, ports)]
        self.recorders = [Recorder(inside(far_side, *program)), Recorder(program)]
        self.questions: list[bytes] = []
        self.name_server = subprocess.Popen(
            [sys.executable, "-c", NAMES_PROGRAM, json.dumps(zone), str(TTL)],
            stdout=subprocess.PIPE,
            text=True,
        )
        stream: Any = self.name_server.stdout
        stream.readline()
        threading.Thread(target=self._read, daemon=True).start()
        time.sleep(0.5)

    def _read(self) -> None:
        stream: Any = self.name_server.stdout
        for line in stream:
            self.questions.append(bytes.fromhex(line))

    def arrived(self, token: bytes, address: str = "") -> bool:
        """Return whether bytes arrived at a machine or at the hypervisor."""
        return any(recorder.arrived(token, address) for recorder in self.recorders)

    def arrives(self, token: bytes) -> bool:
        """Wait until bytes arrive at a machine; return whether they did."""
        deadline = time.monotonic() + EXPECTED
        while not self.arrived(token) and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.arrived(token)

    def add(self, address: str) -> None:
        """Give the other machines an address."""
        command = inside(self.far_side, "ip", "address", "add", f"{address}/32", "dev", "far")
        subprocess.run(command, check=True, timeout=20)

    def run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Run a program of Python on the other machines."""
        command = inside(self.far_side, sys.executable, "-c", program, *arguments)
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def forget(self) -> None:
        """Forget what arrived."""
        for recorder in self.recorders:
            recorder.lines.clear()

    def close(self) -> None:
        """End the programs."""
        for process in (*(r.process for r in self.recorders), self.name_server):
            process.kill()
            process.wait()


@contextmanager
def machines(
    zone: dict[str, str] | None = None, ports: Sequence[int] = (80, 443, 5000, 7777)
) -> Iterator[Machines]:
    """Build the hypervisor and all other machines.

    :param zone: the names that the hypervisor's name server knows.
    :param ports: the ports at which the machines record connections.
    """
    with other_namespace() as far_side:
        built = Machines(far_side, zone or ZONE, ports)
        try:
            yield built
        finally:
            built.close()


@contextmanager
def guest_of(link: uplink_lab.Uplink) -> Iterator[Guest]:
    """Connect a guest to an uplink."""
    with other_namespace() as vm:
        yield Guest(link.tap, vm)


def weakened(name: str) -> dict[str, Any]:
    """Return parts of an order: everything is permitted."""
    folder = Path(os.environ["LAB"], name)
    order = uplink.order(0, folder, ALLOWED)
    settings = order["namespace"]["names"]["settings"]
    settings |= {"names": [("*.org", 0), ("*.com", 0), ("*.org", 5000)], "denied": []}
    lines = [
        line
        for line in settings["configuration"].splitlines()
        if not line.strip().startswith(("tcp-request content reject", "http-request deny"))
        or "hello_type" in line
    ]
    settings["configuration"] = (
        "\n".join(
            line.replace(
                "reject if !{{ req.ssl_hello_type 1 }}", "accept if !{{ req.ssl_hello_type 1 }}"
            )
            for line in lines
        )
        + "\n"
    )
    rules = order["rules"].replace(" drop", " accept").replace("jump refuse", "accept")
    rules = rules.replace("reject with icmp type admin-prohibited", "accept")
    return {"namespace": order["namespace"], "rules": rules}


def send(guest: Guest, entries: Any, expected: Any = ()) -> None:
    """Open connections in a guest.

    :param expected: the entries that the uplink permits, and that can take longer.
    """
    attempts = [
        (
            entry.address,
            entry.port,
            [part.hex() for part in entry.messages()],
            EXPECTED if entry in expected else ATTACK,
        )
        for entry in entries
    ]
    result = guest.run(sys.executable, "-c", CLIENT, json.dumps(attempts))
    assert not result.returncode, result.stderr


def ask(
    guest: Guest,
    name: str,
    kind: int = 1,
    way: str = "udp",
    address: str = uplink_rules.GATEWAY,
    extra: str = "",
) -> Any:
    """Ask a question of DNS in a guest; return the result, the addresses and their time."""
    result = guest.run(sys.executable, "-c", ASK, json.dumps([name, kind, way, address, extra]))
    return json.loads(result.stdout.splitlines()[-1]) if result.stdout else result.stderr


def recorded(link: uplink_lab.Uplink) -> Any:
    """Return the record of refused attempts."""
    time.sleep(uplink_names.INTERVAL + 1)
    return json.loads((link.folder / uplink.RECORD).read_text())


def packets() -> None:
    """Send all attacks by packets, through the uplink and through a careless one."""
    result: dict[str, Any] = {}
    with machines():
        sniffer = uplink_lab.Sniffer()
        for name, changes in (("uplink", {}), ("careless", {"rules": careless()})):
            with opened(name, ALLOWED, **changes) as link:
                gateway = link.gateway()
                sniffer.ports.clear()
                sniffer.addresses.clear()
                for _attempt in range(2):
                    for attack in PACKETS:
                        for frame in frames(attack, gateway):
                            os.write(link.tap, frame)
                        time.sleep(0.005)
                time.sleep(uplink_lab.SETTLE)
                result[name] = [a.name for a in PACKETS if target(a) in sniffer.addresses]
                if name == "uplink":
                    result["refused"] = recorded(link)
    print(json.dumps(result))


def careless() -> str:
    """Return rules that accept everything and redirect nothing."""
    named = f"set {uplink_allow_rules.NAMED} {{ type ipv4_addr . inet_service; flags timeout; }}"
    refused = f"set {uplink_allow_rules.REFUSED} {{ type ipv4_addr; }}"
    return uplink_lab.CARELESS.replace("  chain", f"  {named}\n  {refused}\n  chain")


def names() -> None:
    """Open all connections, through the uplink, through one that permits everything, and through
    one without checks of names.
    """
    result: dict[str, Any] = {}
    with machines() as built:
        variants: dict[str, Any] = {
            "uplink": {},
            "weakened": weakened("weakened"),
            "careless": {"rules": careless()},
        }
        for name, changes in variants.items():
            with opened(name, ALLOWED, **changes) as link, guest_of(link) as guest:
                built.forget()
                begin = time.monotonic()
                expected = PERMITTED if name == "uplink" else []
                send(guest, NAMES + PERMITTED, expected)
                for entry in expected:
                    built.arrives(entry.token)
                time.sleep(0.5)
                result[name] = [
                    entry.name
                    for entry in NAMES + PERMITTED
                    if built.arrived(entry.token, entry.reached)
                ]
                result[f"{name} seconds"] = time.monotonic() - begin
                if name == "uplink":
                    result["refused"] = recorded(link)
    print(json.dumps(result))


def questions() -> None:
    """Ask questions of DNS, and use the answers."""
    result: dict[str, Any] = {}
    order = uplink.order(0, Path(os.environ["LAB"], "uplink"), ALLOWED)
    order["namespace"]["names"]["settings"]["grace"] = GRACE
    with (
        machines() as built,
        opened("uplink", ALLOWED, namespace=order["namespace"]) as link,
        guest_of(link) as guest,
    ):
        fetch = "import socket as s; s.create_connection(({!r}, 5000), 3); print('open')"
        result["before"] = guest.python(fetch.format(REGISTRY))
        for way in ("udp", "tcp"):
            result[f"{way} allowed"] = ask(guest, "good.example.org", way=way)
            result[f"{way} refused"] = ask(guest, "evil.example.com", way=way)
            result[f"{way} direct"] = ask(guest, "evil.example.com", way=way, address="198.18.1.3")
        for name in (
            "sub.good",
            "wild",
            "evilwild",
            "loopback.wild",
            "private.wild",
            "metadata.wild",
        ):
            result[name] = ask(guest, f"{name}.example.org")
        result["inner"] = ask(guest, "inner.wild.example.org")
        result["alias"] = ask(guest, "alias.wild.example.org")
        result["upper case"] = ask(guest, "GOOD.Example.ORG")
        result["missing"] = ask(guest, "missing.wild.example.org")
        for kind, number in (("AAAA", 28), ("HTTPS", 65), ("TXT", 16), ("ANY", 255)):
            result[kind] = ask(guest, "good.example.org", number)
        result["extra"] = ask(guest, "good.example.org", extra="stolen")
        result["passed on"] = sorted({question[12:].hex() for question in built.questions})
        result["registry"] = ask(guest, "registry.example.org")
        result["after"] = guest.python(fetch.format(REGISTRY))
        result["other port"] = guest.python(fetch.format(REGISTRY).replace("5000", "7777"))
        result["expired"] = guest.python(
            "import socket as s, time",
            f"place = {REGISTRY!r}, 5000",
            "c = s.create_connection(place, 3); c.settimeout(5)",
            f"time.sleep({TTL + GRACE + 2})",
            "c.sendall(b'later'); text = c.recv(5).decode()",
            "try: s.create_connection(place, 3)",
            "except OSError as error: print(text, error)",
        )
    print(json.dumps(result))


def many() -> None:
    """Open 20 uplinks at once, and use each of them."""
    result: dict[str, Any] = {}
    with machines() as built, ExitStack() as stack:
        begin = time.monotonic()
        links = [stack.enter_context(opened(f"host-{n}", ALLOWED)) for n in range(20)]
        result["seconds"] = time.monotonic() - begin
        reached = []
        for number, link in enumerate(links):
            guest = stack.enter_context(guest_of(link))
            text = f"GET /host-{number}. HTTP/1.1\r\nHost: good.example.org\r\n\r\n"
            connection = (GOOD, 80, [text.encode().hex()], EXPECTED)
            guest.run(sys.executable, "-c", CLIENT, json.dumps([connection]))
            refused = ask(guest, "evil.example.com")
            reached.append([built.arrives(f"host-{number}.".encode()), refused])
        result["reached"] = reached
    print(json.dumps(result))


def life() -> None:
    """End each process of an uplink, and check that the others end too."""
    result: dict[str, Any] = {}
    with machines():
        for victim in ("machine", "guard", "slirp4netns", "namespace", "haproxy", "names"):
            with opened(victim, ALLOWED) as link:
                count = uplink_lab.processes()
                if victim in ("machine", "guard"):
                    getattr(link, victim).kill()
                else:
                    os.kill(process(victim), signal.SIGKILL)
                result[victim] = count, uplink_lab.ended(link)
    print(json.dumps(result))


def process(victim: str) -> int:
    """Return the number of a process of the uplink."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            program = " ".join(words[:5])
            if (
                victim in words
                or words[0].endswith(f"/{victim}")
                or (victim == "names" and "The name server of an uplink" in program)
            ):
                return int(entry.name)
    raise AssertionError(victim)


INDEX = "pypi.wild.example.org"
WHEEL = "trinket-1.0-py3-none-any.whl"
WEB_SERVER = """
import http.server, os, sys
os.chdir(sys.argv[1])
handler = http.server.SimpleHTTPRequestHandler
http.server.ThreadingHTTPServer(("203.0.113.90", 80), handler).serve_forever()
"""


def publish(folder: Path) -> Path:
    """Create a package index with one package."""
    project = folder / "index" / "simple" / "trinket"
    project.mkdir(parents=True)
    (project / "index.html").write_text(f'<a href="{WHEEL}">{WHEEL}</a>')
    with zipfile.ZipFile(project / WHEEL, "w") as wheel:
        wheel.writestr("trinket.py", "")
        facts = "trinket-1.0.dist-info"
        wheel.writestr(f"{facts}/METADATA", "Metadata-Version: 2.1\nName: trinket\nVersion: 1.0\n")
        wheel.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{facts}/RECORD", "")
    return folder / "index"


def downloads() -> None:
    """Download a package with pip in a guest, with each egress, from two indexes on one machine."""
    result: dict[str, Any] = {}
    folder = Path(os.environ["LAB"])
    resolver = folder / "guest.conf"
    resolver.write_text(f"nameserver {uplink_rules.GATEWAY}\n")
    # The guest's programs ask the name server of the guest.
    bind = f"mount --bind {resolver} {os.path.realpath('/etc/resolv.conf')}"
    zone = {**ZONE, INDEX: "203.0.113.90", "pypi.example.com": "203.0.113.90"}
    with machines(zone, ports=[443]) as built:
        built.add("203.0.113.90")
        server = built.run(WEB_SERVER, str(publish(folder)))
        for name, spec in (("open", uplink_lab.OPEN), ("allow", ALLOWED)):
            with opened(name, spec) as link, guest_of(link) as guest:
                for index in (INDEX, "pypi.example.com"):
                    pip = [sys.executable, "-m", "pip", "download", "--no-cache-dir", "--retries=0"]
                    pip += [f"--trusted-host={index}", f"--index-url=http://{index}/simple/"]
                    pip += [
                        "--no-deps",
                        "--timeout=5",
                        f"--dest={folder}/{name}-{index}",
                        "trinket",
                    ]
                    command = ["unshare", "--mount", "sh", "-c", f'{bind} && exec "$@"', "sh", *pip]
                    answer = guest.run(*command)
                    files = sorted(path.name for path in folder.glob(f"{name}-{index}/*"))
                    result[f"{name} {index}"] = answer.returncode, files, answer.stderr[-300:]
        server.kill()
    print(json.dumps(result))
