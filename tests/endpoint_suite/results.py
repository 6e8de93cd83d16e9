# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of the suite: the records of all runs added up, compared, and shown as a table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

# The part of the tests that pass on a bare dockerd, documented differences excluded.
BOUND = 0.97
# The number of tests that documented differences can concern.
MOST_DIFFERENCES = 15


@dataclass
class ServerResults:
    """Outcomes of the tests on one server.

    :param identity: decides whether the outcomes of an earlier run are still valid.
    :param facts: versions of the server.
    :param commit: the commit of the last run.
    :param tests: outcome, seconds and reason by node id; the commit too, if it is another one.
    """

    identity: str
    facts: dict[str, str] = field(default_factory=dict)
    commit: str = ""
    tests: dict[str, dict[str, Any]] = field(default_factory=dict)

    def having(self, outcome: str) -> set[str]:
        """Return the tests with an outcome."""
        return {test for test, result in self.tests.items() if result["outcome"] == outcome}

    def commits(self) -> list[str]:
        """Return the commits of all outcomes."""
        return sorted({result.get("commit", self.commit) for result in self.tests.values()})


@dataclass(frozen=True)
class Comparison:
    """A server compared with the bare dockerd.

    :param expected: tests that pass on the bare dockerd, documented differences excluded.
    :param documented: tests that pass there and are a documented difference.
    :param passed: expected tests that pass.
    :param failed: expected tests that do not pass.
    :param missing: expected tests that were not run.
    """

    expected: int
    documented: int
    passed: int
    failed: list[str]
    missing: list[str]

    @property
    def ratio(self) -> float:
        """Return the part of the expected tests that pass."""
        return self.passed / self.expected if self.expected else 0.0


class RecordStore:
    """Records of servers in a directory: a file of JSON lines for each server.

    The first line is the server, each further line an outcome. The last outcome of a test counts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, server: str) -> Path:
        """Return the file of a server."""
        return self.folder / f"{server}.jsonl"

    def begin(
        self,
        server: str,
        results: ServerResults,
        discarded: Collection[str] = (),
        *,
        keep: bool = False,
    ) -> ServerResults:
        """Return the results to continue.

        :param discarded: tests whose earlier outcomes are discarded.
        :param keep: whether outcomes of another identity are kept. Otherwise they are discarded.
        """
        earlier = self.load(server)
        if earlier and (keep or earlier.identity == results.identity):
            results.tests = {
                test: {"commit": earlier.commit, **result}
                for test, result in earlier.tests.items()
                if test not in discarded
            }
        head = {"identity": results.identity, "facts": results.facts, "commit": results.commit}
        lines = [json.dumps(head)]
        lines += [json.dumps({"test": test, **result}) for test, result in results.tests.items()]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path(server).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return results

    def append(self, server: str, test: str, outcome: str, reason: str) -> None:
        """Add an outcome that the recorder could not write."""
        line = json.dumps({"test": test, "outcome": outcome, "seconds": 0.0, "reason": reason})
        with self.path(server).open("a", encoding="utf-8") as output:
            output.write(f"{line}\n")

    def load(self, server: str) -> ServerResults | None:
        """Return the results of a server, or None without a record.

        A line that is not complete, after a crash, is ignored.
        """
        try:
            lines = self.path(server).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return None
        entries = [entry for line in lines if (entry := _parse(line)) is not None]
        if not entries or "identity" not in entries[0]:
            return None
        results = ServerResults(**entries[0])
        for entry in entries[1:]:
            results.tests[entry.pop("test")] = entry
        return results

    def all(self) -> dict[str, ServerResults]:
        """Return the results of all servers."""
        names = sorted(path.stem for path in self.folder.glob("*.jsonl"))
        return {name: results for name in names if (results := self.load(name))}


def load_differences(path: Path, tests: Iterable[str]) -> dict[str, str]:
    """Return the reason of each test for which a documented difference exists.

    :param path: a YAML list of entries with ``test`` and ``reason``. A test is the end of a node
        id, or the name of a class for all tests of the class.
    """
    reasons: dict[str, str] = {}
    entries = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    known = list(tests)
    for entry in entries:
        name, reason = str(entry["test"]), str(entry["reason"]).strip()
        matching = [test for test in known if name in _names(test)]
        if not reason or not matching:
            raise ValueError(f"{path.name}: {name} has no reason, or no such test exists")
        reasons |= dict.fromkeys(matching, reason)
    if len(reasons) > MOST_DIFFERENCES:
        raise ValueError(
            f"{path.name} lists {len(reasons)} tests, and at most {MOST_DIFFERENCES} are valid"
        )
    return reasons


def compare(
    bare: ServerResults, server: ServerResults, differences: Mapping[str, str]
) -> Comparison:
    """Compare a server with the bare dockerd."""
    passing = bare.having("passed")
    expected = passing - differences.keys()
    passed = expected & server.having("passed")
    missing = expected - server.tests.keys()
    return Comparison(
        expected=len(expected),
        documented=len(passing & differences.keys()),
        passed=len(passed),
        failed=sorted(expected - passed - missing),
        missing=sorted(missing),
    )


def document(
    servers: Mapping[str, ServerResults], differences: Mapping[str, str], head: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of the file of results."""
    comparisons = {}
    if bare := servers.get("bare"):
        for name, results in servers.items():
            if name != "bare":
                comparison = compare(bare, results, differences)
                comparisons[name] = {**asdict(comparison), "ratio": round(comparison.ratio, 4)}
    return {
        **head,
        "differences": dict(differences),
        "servers": {name: asdict(results) for name, results in servers.items()},
        "comparisons": comparisons,
    }


def table(servers: Mapping[str, ServerResults], total: int) -> list[str]:
    """Return the table of all servers, line by line.

    :param total: the number of selected tests.
    """
    heads = ("server", "Docker", "passed", "failed", "skipped", "not run", "commits")
    rows = [heads, tuple("-" * len(head) for head in heads)]
    for name, results in servers.items():
        counts = Counter(result["outcome"] for result in results.tests.values())
        figures = [
            counts["passed"],
            counts["failed"],
            counts["skipped"],
            total - len(results.tests),
        ]
        commits = ", ".join(results.commits())
        rows.append((name, results.facts.get("Version", ""), *map(str, figures), commits))
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    return [
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in rows
    ]


def summary(name: str, comparison: Comparison) -> list[str]:
    """Return the comparison of a server with the bare dockerd, line by line."""
    head = (
        f"{name} passes {comparison.passed} of the {comparison.expected} tests that bare passes "
        f"({comparison.ratio:.1%}; {comparison.documented} documented differences excluded)."
    )
    lines = [head]
    lines += [f"  failed: {test}" for test in comparison.failed]
    if comparison.missing:
        lines.append(f"  not run: {len(comparison.missing)} tests")
    return lines


def _names(test: str) -> set[str]:
    """Return the names under which a test can be listed: class, class and function, function."""
    words = test.split("::")[1:]
    return {*words, "::".join(words)}


def _parse(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
