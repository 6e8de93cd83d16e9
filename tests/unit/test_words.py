# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of names and prose against the glossary."""

from __future__ import annotations

import pytest

from hack import words

AVOIDED = {"take away": "create, delete", "sweep": "reap"}


def rules(source: str, path: str = "plugins/x.py") -> list[str]:
    return [finding.rule for finding in words.findings(path, source, AVOIDED)]


@pytest.mark.parametrize(
    "source",
    [
        "found = 1\n",
        "def call(given: int) -> None: ...\n",
        "for _there in (): ...\n",
        "with open('x') as what: ...\n",
    ],
)
def test_vague_name_is_reported(source: str) -> None:
    assert rules(source) == ["vague-name"]


@pytest.mark.parametrize(
    "source", ["x = 1\n", "def call(b: int) -> None: ...\n", "for z in (): ...\n"]
)
def test_one_letter_name_is_reported(source: str) -> None:
    assert rules(source) == ["short-name"]


@pytest.mark.parametrize(
    "source",
    [
        "[x for x in ()]\n",
        "for i in range(3): ...\n",
        "key = lambda h: h\n",
        "T = TypeVar('T')\n",
        "for _ in (): ...\n",
        "hosts = []\n",
    ],
)
def test_name_in_its_place_is_accepted(source: str) -> None:
    assert rules(source) == []


@pytest.mark.parametrize(
    "text",
    [
        "Build it anew.",
        "A disk beside the host.",
        "It ended meanwhile.",
        "Nobody has it.",
        "Whoever holds a lease.",
        "The host is to be absent.",
        "The user and his key.",
        "It cannot cannot cannot be read.",
        "A half-made host.",
        "It carries our mark.",
    ],
)
def test_banned_word_is_reported_in_docstrings_messages_comments_and_pages(text: str) -> None:
    assert rules(f'"""{text}"""\n') == ["banned-word"]
    assert rules(f"print({text!r})\n") == ["banned-word"]
    assert rules(f"# {text}\n") == ["banned-word"]
    assert rules(f"{text}\n", "docs/x.md") == ["banned-word"]


@pytest.mark.parametrize("text", ["What runs is shown.", "A host. Who has it is unknown."])
def test_pronoun_as_subject_is_reported(text: str) -> None:
    assert rules(f"{text}\n", "docs/x.md") == ["subject"]


def test_question_is_not_reported_as_a_subject() -> None:
    assert rules("What does a full pool refuse?\n", "docs/x.md") == []


@pytest.mark.parametrize("text", ["Take it away.", "Hosts were taken away.", "Sweeping the store."])
def test_word_that_the_glossary_avoids_is_reported(text: str) -> None:
    assert rules(f"{text}\n", "docs/x.md") == ["synonym"]


def test_code_in_a_page_is_not_checked() -> None:
    page = "Run `sweep anew`.\n\n```console\n$ sweep anew\n```\n"
    assert rules(page, "docs/x.md") == []


def test_exception_needs_a_reason() -> None:
    assert rules("found = 1  # words: a key of the result\n") == []
    assert rules("found = 1  # words:\n") == ["exception"]
    assert rules("Build it anew. <!-- words: a quotation -->\n", "docs/x.md") == []


def test_exception_of_a_long_text_is_on_its_last_line() -> None:
    assert rules('TEXT = """\nBuild it\nanew.\n"""  # words: a quotation\n') == []


def test_words_to_avoid_come_from_the_glossary() -> None:
    avoided = words.synonyms(words.GLOSSARY.read_text(encoding="utf-8"))
    assert avoided["take away"] == "create, delete"
    assert avoided["survey"] == "observe"


def test_word_to_avoid_has_one_row() -> None:
    table = "\n## Verbs\n\n| word | meaning | not |\n| --- | --- | --- |\n"
    with pytest.raises(ValueError, match="sweep is a word to avoid in two rows"):
        words.synonyms(f"{table}| reap | deletes | sweep |\n| observe | reads | sweep |\n")


def test_product_has_no_findings() -> None:
    assert [str(finding) for finding in words.check(words.ROOT, words.tracked(words.ROOT))] == []
