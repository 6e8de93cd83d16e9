# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository of Debian packages in addition to Debian's own, as declared."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ..errors import InvalidInput
from . import naming

_BEGIN, _END = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"
_WORD = re.compile(r"[A-Za-z0-9.][A-Za-z0-9._+~/-]{0,99}")
_USERINFO = re.compile(r"//[^/]*@")
_LONGEST_KEY = 100_000


@dataclass(frozen=True)
class Repository:
    """A repository of Debian packages.

    :param url: the URL of the repository.
    :param signed_by: the public key of the repository's signatures, ASCII-armored. A signature is
        always required.
    :param suite: the suite. Empty for the image's own. A suite that ends with a slash is a
        directory without components.
    :param components: the components of the suite.
    """

    url: str
    signed_by: str
    suite: str = ""
    components: tuple[str, ...] = ("main",)

    def __post_init__(self) -> None:
        web_address("repository", self.url)
        if not _armored(self.signed_by):
            raise InvalidInput(
                f"repository {naming.shown(self.url)}: signed_by is not an ASCII-armored public "
                f"key.",
                remedy="set the text that gpg --armor --export prints",
            )
        for word in (*((self.suite,) if self.suite else ()), *self.components):
            if not _plain(word):
                raise InvalidInput(
                    f"repository {naming.shown(self.url)}: {naming.shown(word)} is not a suite or "
                    f"component.",
                    remedy="write words such as stable and main",
                )
        if not self.components and not self.suite.endswith("/"):
            raise InvalidInput(
                f"repository {naming.shown(self.url)} has no components.",
                remedy="declare components, or a suite that ends with a slash",
            )

    def stanza(self, suite: str) -> str:
        """Return a paragraph of a ``.sources`` file that contains the key: apt may run as a user
        who cannot read stockyard's files.

        See sources.list(5), "deb822-style format"; apt 2.3.10 and later read such keys.
        """
        own_suite = self.suite or suite
        fields = ["Types: deb", f"URIs: {self.url}", f"Suites: {own_suite}"]
        if not own_suite.endswith("/"):
            fields.append(f"Components: {' '.join(self.components)}")
        key = [f" {line.rstrip() or '.'}" for line in self.signed_by.strip().splitlines()]
        return "\n".join([*fields, "Signed-By:", *key]) + "\n"

    def without_secrets(self) -> Repository:
        """Return the repository without user name and password."""
        return replace(self, url=_USERINFO.sub("//", self.url))


def _armored(key: object) -> bool:
    text = key.strip() if isinstance(key, str) else ""
    complete = text.startswith(_BEGIN) and text.endswith(_END) and text.isascii()
    return (
        complete
        and len(text) <= _LONGEST_KEY
        and all(character.isprintable() or character in "\r\n\t" for character in text)
    )


def _plain(word: object) -> bool:
    return isinstance(word, str) and bool(_WORD.fullmatch(word)) and ".." not in word


def web_address(subject: str, value: object) -> str:
    """Check the URL of a resource that apt reads."""
    text = naming.line(subject, value, 1024)
    if not text.startswith(("http://", "https://", "file:///")):
        raise InvalidInput(
            f"{subject}: {naming.shown(text)} is not a URL.", remedy="write http://… or https://…"
        )
    if any(character in text for character in " \"'\\<>`$"):
        raise InvalidInput(
            f"{subject}: {naming.shown(text)} contains white space or quotes.",
            remedy="encode these characters",
        )
    return text
