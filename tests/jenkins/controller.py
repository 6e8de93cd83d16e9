# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Jenkins controller for its nodes, written from Jenkins' documented API and the answers of its
source.

No controller can be had from the registries that the tests reach, so this stands in for one. The
README in this directory says in what it equals a real one. Builds are started by tests; they
get an executor as Jenkins gives them out.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

USER, TOKEN, PASSWORD = "admin", "11f0c2a4d0c6b3e8", "correct horse"
SSH = "hudson.plugins.sshslaves.SSHLauncher"
CORE_LAUNCHERS = {"hudson.slaves.JNLPLauncher", "hudson.slaves.CommandLauncher"}
BAD_NAME = re.compile(r"[?*/\\%!@#$^&|<>\[\]:;\x00-\x1f]|^\.{0,2}$|\.$")
BUILT_IN = "Built-In Node"


@dataclass
class Build:
    """A build: where it runs, if it runs already."""

    label: str
    node: str = ""
    is_done: bool = False


@dataclass
class Computer:
    """A node, as its XML says, and what it does now."""

    xml: ElementTree.Element
    connected: bool = False
    held: str | None = None
    builds: list[Build] = field(default_factory=list)
    removed: bool = False

    def text(self, tag: str) -> str:
        return self.xml.findtext(tag) or ""

    @property
    def executors(self) -> int:
        return 0 if self.removed else int(self.text("numExecutors"))

    @property
    def launcher(self) -> str:
        launcher = self.xml.find("launcher")
        return "" if launcher is None else launcher.get("class", "")

    @property
    def labels(self) -> set[str]:
        return {*self.text("label").split(), self.text("name")}


class Jenkins(http.server.ThreadingHTTPServer):
    """The controller.

    :param plugins: whether it has the SSH launcher.
    :param path: where it is on its host.
    """

    daemon_threads = True

    def __init__(self, *, plugins: bool = True, path: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.path = path
        self.launchers = CORE_LAUNCHERS | ({SSH} if plugins else set())
        self.computers: dict[str, Computer] = {}
        self.queue: list[Build] = []
        self.lock = threading.RLock()
        self.requests: list[str] = []
        self.broken: dict[str, tuple[int, str]] = {}
        # Starts an agent over SSH, and reports whether it is online. No request waits for it.
        self.launch: Callable[[ElementTree.Element], bool] | None = None
        self._key = secrets.token_bytes(32)
        self.sessions: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{self.path}"

    def secret(self, name: str) -> str:
        """As Jenkins makes it: of the name and nothing else."""
        return hmac.new(self._key, name.encode(), hashlib.sha256).hexdigest()

    # Actions of tests.

    def build(self, label: str) -> Build:
        """Ask for a build."""
        with self.lock:
            build = Build(label)
            self.queue.append(build)
            self.schedule()
            return build

    def finish(self, build: Build) -> None:
        """End a build."""
        with self.lock:
            build.is_done = True
            for name, computer in list(self.computers.items()):
                if build in computer.builds:
                    computer.builds.remove(build)
                    if computer.removed and not computer.builds:
                        del self.computers[name]
            self.schedule()

    def connect(self, name: str, secret: str) -> bool:
        """An inbound agent comes."""
        with self.lock:
            computer = self.computers.get(name)
            if (
                computer is None
                or computer.removed
                or not hmac.compare_digest(secret, self.secret(name))
            ):
                return False
            computer.connected = True
            self.schedule()
            return True

    def lose(self, name: str) -> None:
        """A host is gone, and the builds on it are."""
        with self.lock:
            self.computers[name].connected = False
            for build in list(self.computers[name].builds):
                self.finish(build)

    def names(self) -> list[str]:
        with self.lock:
            return sorted(name for name, c in self.computers.items() if not c.removed)

    # What Jenkins does by itself.

    def schedule(self) -> None:
        """Give builds that wait to nodes that are free."""
        for build in list(self.queue):
            for name, computer in sorted(self.computers.items()):
                free = (
                    computer.connected
                    and computer.held is None
                    and len(computer.builds) < computer.executors
                )
                if free and build.label in computer.labels:
                    build.node = name
                    computer.builds.append(build)
                    self.queue.remove(build)
                    break

    def configure(self, computer: Computer, xml: ElementTree.Element) -> None:
        """Take a configuration. A class that it does not know is left out, and it says nothing of
        that.
        """
        launcher = xml.find("launcher")
        if launcher is not None and launcher.get("class") not in self.launchers:
            xml.remove(launcher)
        computer.xml = xml
        if computer.launcher == SSH and not computer.connected:
            if self.launch:
                threading.Thread(
                    target=self._launched, args=(computer, self.launch), daemon=True
                ).start()
            else:
                computer.connected = True
        self.schedule()

    def _launched(self, computer: Computer, launch: Callable[[ElementTree.Element], bool]) -> None:
        came = launch(computer.xml)
        with self.lock:
            computer.connected = came and not computer.removed
            self.schedule()


def serialised(element: ElementTree.Element) -> bytes:
    return b"<?xml version='1.1' encoding='UTF-8'?>\n" + bytes(
        ElementTree.tostring(element, encoding="utf-8")
    )


def node_xml(bean: dict[str, Any]) -> ElementTree.Element:
    """What Jenkins keeps of the form that makes a node."""
    slave = ElementTree.Element("slave")
    fields = {
        "name": bean["name"],
        "description": bean.get("nodeDescription", ""),
        "remoteFS": bean["remoteFS"],
        "numExecutors": str(bean["numExecutors"]),
        "mode": bean["mode"],
    }
    for tag, text in fields.items():
        ElementTree.SubElement(slave, tag).text = text
    ElementTree.SubElement(
        slave, "retentionStrategy", {"class": bean["retentionStrategy"]["stapler-class"]}
    )
    launcher = ElementTree.SubElement(
        slave, "launcher", {"class": bean["launcher"]["stapler-class"]}
    )
    settings = ElementTree.SubElement(launcher, "workDirSettings")
    ElementTree.SubElement(settings, "disabled").text = "false"
    ElementTree.SubElement(settings, "internalDir").text = "remoting"
    ElementTree.SubElement(slave, "label").text = bean.get("labelString", "")
    ElementTree.SubElement(slave, "nodeProperties")
    return slave


def pruned(value: Any, tree: str) -> Any:
    """Reduce an answer as ``?tree=`` does: ``a,b[c,d[e]]``."""
    if isinstance(value, list):
        return [pruned(part, tree) for part in value]
    selected = {}
    for name, inner in branches(tree):
        if name in value:
            selected[name] = pruned(value[name], inner) if inner else value[name]
    return selected


def branches(tree: str) -> Iterator[tuple[str, str]]:
    depth, start, inner = 0, 0, 0
    for at, letter in enumerate(f"{tree},"):
        if letter == "[":
            inner = inner or at
            depth += 1
        elif letter == "]":
            depth -= 1
        elif letter == "," and not depth:
            yield (tree[start:inner], tree[inner + 1 : at - 1]) if inner else (tree[start:at], "")
            start, inner = at + 1, 0


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    server: Jenkins
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: object) -> None:
        return

    def do_GET(self) -> None:
        self.body = b""
        self._answer()

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer()

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        self.query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        where = parts.path.removeprefix(self.server.path)
        self.server.requests.append(f"{self.command} {where}")
        for pattern, (status, text) in self.server.broken.items():
            if re.fullmatch(pattern, f"{self.command} {where}"):
                self._page(status, text)
                return
        if not parts.path.startswith(self.server.path):
            self._page(404, "Not Found")
        elif self._let_in():
            with self.server.lock:
                self._route([unquote(word) for word in where.split("/") if word])

    def _let_in(self) -> bool:
        """Whether who asks may. A token needs no crumb; a password does, and the session that it
        was given in.
        """
        kind, _space, login = (self.headers.get("Authorization") or "").partition(" ")
        if kind != "Basic":
            self._page(403, "Authentication required", {"X-You-Are-Authenticated-As": "anonymous"})
            return False
        user, _colon, secret = base64.b64decode(login).decode().partition(":")
        if user != USER or secret not in (TOKEN, PASSWORD):
            self._page(401, "Invalid password/token for user: " + escape(user))
            return False
        if self.command == "POST" and secret == PASSWORD and not self._crumb_is_right():
            self._page(403, "No valid crumb was included in the request")
            return False
        return True

    def _crumb_is_right(self) -> bool:
        session = (self.headers.get("Cookie") or "").partition("=")[2]
        return (
            session in self.server.sessions
            and self.headers.get("Jenkins-Crumb") == f"crumb-of-{session}"
        )

    def _route(self, words: list[str]) -> None:
        match (self.command, words):
            case ("GET", ["computer", "api", "json"]):
                listed = {
                    "computer": [self._built_in(), *map(self._exported, self.server.computers)]
                }
                self._json(pruned(listed, self.query["tree"]) if "tree" in self.query else listed)
            case ("GET", ["crumbIssuer", "api", "json"]):
                session = secrets.token_hex(8)
                self.server.sessions.add(session)
                answer = {"crumb": f"crumb-of-{session}", "crumbRequestField": "Jenkins-Crumb"}
                self._json(answer, {"Set-Cookie": f"JSESSIONID.x={session}; Path=/; HttpOnly"})
            case ("POST", ["computer", "doCreateItem"]):
                self._create()
            case (_, ["computer", name, action]) if name in self.server.computers:
                self._on(name, self.server.computers[name], action)
            case _:
                self._page(404, "Not Found")

    def _on(self, name: str, computer: Computer, action: str) -> None:
        if action == "config.xml" and self.command == "GET" and not computer.removed:
            self._say(200, serialised(computer.xml), "application/xml")
        elif action == "config.xml" and not computer.removed:
            self._configure(computer)
        elif action == "jenkins-agent.jnlp" and self.command == "GET":
            secret, title = self.server.secret(name), escape(name)
            argument = f"<argument>{secret}</argument><argument>{title}</argument>"
            arguments = f"{argument}<argument>-url</argument>"
            text = f"<jnlp><application-desc>{arguments}</application-desc></jnlp>"
            self._say(200, text.encode(), "application/x-java-jnlp-file")
        elif action not in ("changeOfflineCause", "toggleOffline", "doDelete"):
            self._page(404, "Not Found")
        elif self.command != "POST":
            self._page(405, "Form post required", {"Allow": "POST"})
        else:
            self._act(name, computer, action)

    def _act(self, name: str, computer: Computer, action: str) -> None:
        if action == "doDelete":
            computer.removed, computer.connected = True, False
            if not computer.builds:
                del self.server.computers[name]
        elif action == "toggleOffline" and computer.held is not None:
            computer.held = None
        else:
            computer.held = self.query.get("offlineMessage", "").strip()
        self.server.schedule()
        self._say(302, b"", "text/html", {"Location": ".." if action == "doDelete" else "."})

    def _create(self) -> None:
        fields = {k: v[0] for k, v in parse_qs(self.body.decode()).items()}
        name = fields.get("name", "").strip()
        if BAD_NAME.search(name):
            self._page(400, f"\u2018{escape(name)}\u2019 is an unsafe character")
        elif name in self.server.computers and not self.server.computers[name].removed:
            self._page(400, f"Agent called \u2018{escape(name)}\u2019 already exists")
        elif fields.get("type") != "hudson.slaves.DumbSlave" or "json" not in fields:
            self._page(500, "Oops! A problem occurred while processing the request.")
        else:
            self.server.computers[name] = computer = Computer(ElementTree.Element("slave"))
            self.server.configure(computer, node_xml({**json.loads(fields["json"]), "name": name}))
            self._say(302, b"", "text/html", {"Location": "."})

    def _configure(self, computer: Computer) -> None:
        try:
            # it comes from the test
            xml = ElementTree.fromstring(re.sub(rb"\A<\?xml[^>]*\?>", b"", self.body))  # noqa: S314
        except ElementTree.ParseError:
            self._page(500, "Oops! A problem occurred while processing the request.")
            return
        if xml.tag != computer.xml.tag:
            self._page(400, "Node types do not match")
            return
        self.server.configure(computer, xml)
        self._say(200, b"", "text/html")

    def _exported(self, name: str) -> dict[str, Any]:
        computer = self.server.computers[name]
        return {
            "_class": "hudson.slaves.SlaveComputer",
            "actions": [],
            "assignedLabels": []
            if computer.removed
            else [{"name": label} for label in sorted(computer.labels)],
            "description": "" if computer.removed else computer.text("description"),
            "displayName": name,
            "executors": [{} for _number in range(computer.executors)],
            "idle": not computer.builds,
            "jnlpAgent": computer.launcher in CORE_LAUNCHERS,
            "numExecutors": computer.executors,
            "offline": computer.held is not None or not computer.connected,
            "offlineCause": None,
            "offlineCauseReason": computer.held or "",
            "temporarilyOffline": computer.held is not None and not computer.removed,
        }

    def _built_in(self) -> dict[str, Any]:
        return {
            "_class": "hudson.model.Hudson$MasterComputer",
            "assignedLabels": [{"name": "built-in"}],
            "description": "the Jenkins controller's built-in node",
            "displayName": BUILT_IN,
            "executors": [],
            "idle": True,
            "numExecutors": 0,
            "offline": False,
            "offlineCauseReason": "",
            "temporarilyOffline": False,
        }

    def _json(self, value: object, headers: dict[str, str] | None = None) -> None:
        self._say(200, json.dumps(value).encode(), "application/json;charset=utf-8", headers)

    def _page(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        body = f"<h1>Error</h1><p>{text}</p>"
        page = f"<html><head><style>p{{}}</style></head><body>{body}</body></html>"
        self._say(status, page.encode(), "text/html;charset=utf-8", headers)

    def _say(
        self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"X-Jenkins": "2.555", "Content-Type": kind, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(**options: Any) -> Iterator[Jenkins]:
    """A controller that serves."""
    with Jenkins(**options) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
