# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check names and prose against the glossary.

``words.py [PATH...]`` checks the product, its documentation and its tests, or the given files, and
prints one line for each finding. The last column of the verbs in docs/glossary.md contains the
words to avoid.

A finding is corrected. An exception says why, at the end of its line: ``# words: REASON`` in
Python, ``<!-- words: REASON -->`` in Markdown. For a text of several lines, the comment is on its
last line.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
GLOSSARY = ROOT / "docs" / "glossary.md"
CHECKED = (
    *("plugins/", "hack/", "docs/", "roles/", "README.md", "CONTRIBUTING.md"),
    *("tests/", "bench/", "examples/"),
)
# Its data are words to avoid.
UNCHECKED = "tests/unit/test_words.py"
MARKER = re.compile(r"(?:#|<!--)\s*words:\s*(?P<reason>[^>]*?)\s*(?:-->)?$")
# Names that say nothing about their contents: participles, pronouns, adverbs.
VAGUE = frozenset(
    {
        *(
            "again",
            "anything",
            "asked",
            "beside",
            "done",
            "each",
            "everything",
            "found",
            "given",
            "gone",
        ),
        *(
            "here",
            "it",
            "kept",
            "left",
            "made",
            "mine",
            "none",
            "nothing",
            "one",
            "ones",
            "other",
            "ours",
        ),
        *("others", "rest", "said", "same", "seen", "shown", "something", "such", "taken", "that"),
        *("theirs", "them", "there", "these", "they", "thing", "things", "this", "those", "told"),
        *("wanted", "what", "which", "who", "whose"),
    }
)
# Loops over numbers may use these.
COUNTERS = frozenset("ijkn")
TYPE_VARIABLES = ("TypeVar", "ParamSpec")
BANNED = {
    r"\banew\b": "again, or a verb such as rebuild",
    r"\bbeside\b": "next to, or in addition to",
    r"\bmeanwhile\b": "during this time",
    r"\b(?:no|some|any|every)body\b": "the user, the holder, or no user",
    r"\bwho(?:ever|soever)\b": "the user who",
    r"\b(?:is|are|was|were) to (?:be|have|do|go|get|say|stay)\b": "must",
    r"\b(?:he|him|his|she|her|hers)\b": "they, or the noun",
    r"\bhalf-(?:made|destroyed)\b": "incomplete",
    r"\b(?:our|ours|us)\b": "stockyard's",
    r"\b([a-z]{3,}) \1 \1\b": "the word once",
}
SUBJECT = re.compile(
    r"(?:^|[.!?:] )(?:What|Who|Whose) [a-z][^.?!]*(?P<end>[.?!]|$)",
)
SEPARABLE = ("away", "back")
IRREGULAR = {
    "take": "takes|took|taken|taking",
    "make": "makes|made|making",
    "give": "gives|gave|given|giving",
    "bring": "brings|brought|bringing",
    "let": "lets|letting",
}


@dataclass(frozen=True)
class Finding:
    """A name or a word to correct.

    :param rule: the name of the rule.
    """

    path: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


@dataclass(frozen=True)
class Text:
    """Prose, with the lines on which an exception can be.

    :param line: the number of its first line.
    """

    line: int
    last_line: int
    content: str


def synonyms(glossary: str) -> dict[str, str]:
    """Return the words to avoid, each with the verbs to use, from the text of the glossary."""
    rows = glossary.partition("\n## Verbs\n")[2].splitlines()
    words: dict[str, str] = {}
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if not row.startswith("|") or len(cells) != 3 or cells[0] in ("word", "---"):
            continue
        for word in filter(None, (part.strip() for part in cells[2].split(","))):
            if word in words:
                raise ValueError(f"docs/glossary.md: {word} is a word to avoid in two rows.")
            words[word] = cells[0]
    return words


def pattern(phrase: str) -> re.Pattern[str]:
    """Return a pattern of a phrase whose first word is a verb in any form."""
    verb, _space, tail = phrase.partition(" ")
    stem = verb.removesuffix("e")
    forms = f"{verb}|{IRREGULAR.get(verb, f'{verb}s|{stem}ed|{stem}ing')}"
    gap = r"(?:\w+\s+){0,2}" if tail in SEPARABLE else ""
    ending = rf"\s+{gap}{re.escape(tail)}" if tail else ""
    return re.compile(rf"\b(?:{forms}){ending}\b", re.IGNORECASE)


def names(tree: ast.AST) -> Iterator[tuple[int, str, bool]]:
    """Return the names that code binds: line, name, and whether one letter is enough for it."""
    small = {id(node) for parent in ast.walk(tree) for node in _small(parent)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id, id(node) in small
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg, id(node) in small


def _small(node: ast.AST) -> Iterator[ast.AST]:
    """Return the parts of a node whose names may have one letter."""
    if isinstance(node, ast.comprehension):
        yield from ast.walk(node.target)
    elif isinstance(node, ast.For):
        for part in ast.walk(node.target):
            if isinstance(part, ast.Name) and part.id in COUNTERS:
                yield part
    elif isinstance(node, ast.Lambda):
        yield from node.args.args
    elif isinstance(node, ast.Assign) and _makes_type_variable(node.value):
        yield from node.targets


def _makes_type_variable(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and getattr(value.func, "id", "") in TYPE_VARIABLES


def python_texts(source: str, tree: ast.AST) -> Iterator[Text]:
    """Return docstrings, module documentation, messages and comments of Python source."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield Text(node.lineno, node.end_lineno or node.lineno, node.value)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not re.search(
            r"SPDX|Copyright|GNU|noqa|type: ignore|words:", token.string
        ):
            yield Text(token.start[0], token.start[0], token.string.lstrip("# "))


def markdown_texts(source: str) -> Iterator[Text]:
    """Return the lines of Markdown, without code, tables of code, and links' targets."""
    fenced = False
    for number, line in enumerate(source.splitlines(), 1):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced:
            plain = re.sub(r"`[^`]*`|\]\([^)]*\)|<!--.*?-->", "", line)
            yield Text(number, number, plain)


def findings(path: str, source: str, avoided: dict[str, str]) -> list[Finding]:
    """Return what to correct in one file."""
    if path.endswith(".py"):
        tree = ast.parse(source)
        texts, bound = list(python_texts(source, tree)), list(names(tree))
    else:
        texts, bound = list(markdown_texts(source)), []
    broken_rules = [
        *((Text(line, line, name), *_named(name, short)) for line, name, short in bound),
        *((text, rule, reason) for text in texts for rule, reason in _said(text, path, avoided)),
    ]
    lines = source.splitlines()
    results = []
    for text, rule, reason in broken_rules:
        if not rule:
            continue
        markers = [MARKER.search(lines[number - 1]) for number in (text.line, text.last_line)]
        marker = next(filter(None, markers), None)
        if marker is None:
            results.append(Finding(path, text.line, rule, reason))
        elif not marker["reason"]:
            results.append(Finding(path, text.line, "exception", "give the reason after 'words:'"))
    return results


def _named(name: str, short: bool) -> tuple[str, str]:
    plain = name.strip("_")
    if plain in VAGUE:
        return "vague-name", f"{name}: name it after its contents"
    if len(name) == 1 and name != "_" and not short:
        return "short-name", f"{name}: one letter is enough only in comprehensions and counters"
    return "", ""


def _said(text: Text, path: str, avoided: dict[str, str]) -> Iterator[tuple[str, str]]:
    if path.endswith("glossary.md") and text.content.startswith("|"):
        return
    plain = " ".join(re.sub(r"``[^`]*``|:\w+:`[^`]*`", "", text.content).split())
    for expression, instead in BANNED.items():
        match = re.search(expression, plain, re.IGNORECASE)
        # "US" is a country, and "us" in "e.g. us-east" a region.
        if match and match[0] != "US":
            yield "banned-word", f"{match[0]!r}: write {instead}"
    match = SUBJECT.search(plain)
    if match and match["end"] != "?":
        yield "subject", f"{match[0].strip('. ')[:40]!r}: begin with a noun"
    for phrase, verbs in avoided.items():
        match = pattern(phrase).search(plain)
        if match:
            yield "synonym", f"{match[0]!r}: the glossary says {verbs}"


def tracked(root: Path) -> Iterator[str]:
    """Return the files to check, among those that git lists."""
    listing = subprocess.run(
        ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    for path in sorted(listing):
        if path.startswith(CHECKED) and path.endswith((".py", ".md")) and path != UNCHECKED:
            yield path


def check(root: Path, paths: Iterable[str]) -> list[Finding]:
    """Return the findings of files below a checkout."""
    avoided = synonyms((root / "docs" / "glossary.md").read_text(encoding="utf-8"))
    results: list[Finding] = []
    for path in paths:
        results += findings(path, (root / path).read_text(encoding="utf-8"), avoided)
    return results


def main(arguments: list[str]) -> int:
    """Print the findings. Return 1 if there are any."""
    results = check(ROOT, arguments or tracked(ROOT))
    for finding in results:
        print(finding)
    return 1 if results else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
