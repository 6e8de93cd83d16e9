# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository of Debian packages beside Debian's own, as it is declared."""

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
    """One source of packages.

    :param url: where it is.
    :param signed_by: the public key that it is signed with, ASCII-armored. There is no way around a
        signature.
    :param suite: its suite; empty for the image's own. One that ends with a slash is a directory
        without components.
    :param components: its components.
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
                remedy="give the text that gpg --armor --export prints",
            )
        for word in (*((self.suite,) if self.suite else ()), *self.components):
            if not _plain(word):
                raise InvalidInput(
                    f"repository {naming.shown(self.url)}: {naming.shown(word)} is not a suite or "
                    f"component.",
                    remedy="give words such as stable and main",
                )
        if not self.components and not self.suite.endswith("/"):
            raise InvalidInput(
                f"repository {naming.shown(self.url)} has no components.",
                remedy="give some, or a suite that ends with a slash",
            )

    def stanza(self, suite: str) -> str:
        """It as a paragraph of a ``.sources`` file, the key in it: apt may run as a user who cannot
        read our files.

        See sources.list(5), "deb822-style format"; apt 2.3.10 and later read such keys.
        """
        own = self.suite or suite
        fields = ["Types: deb", f"URIs: {self.url}", f"Suites: {own}"]
        if not own.endswith("/"):
            fields.append(f"Components: {' '.join(self.components)}")
        key = [f" {line.rstrip() or '.'}" for line in self.signed_by.strip().splitlines()]
        return "\n".join([*fields, "Signed-By:", *key]) + "\n"

    def without_secrets(self) -> Repository:
        """The same without user name and password."""
        return replace(self, url=_USERINFO.sub("//", self.url))


def _armored(key: object) -> bool:
    text = key.strip() if isinstance(key, str) else ""
    whole = text.startswith(_BEGIN) and text.endswith(_END) and text.isascii()
    return (
        whole and len(text) <= _LONGEST_KEY and all(c.isprintable() or c in "\r\n\t" for c in text)
    )


def _plain(word: object) -> bool:
    return isinstance(word, str) and bool(_WORD.fullmatch(word)) and ".." not in word


def web_address(what: str, value: object) -> str:
    """Check the URL of something that apt reads."""
    text = naming.line(what, value, 1024)
    if not text.startswith(("http://", "https://", "file:///")):
        raise InvalidInput(
            f"{what}: {naming.shown(text)} is not a URL.", remedy="give http://… or https://…"
        )
    if any(c in text for c in " \"'\\<>`$"):
        raise InvalidInput(
            f"{what}: {naming.shown(text)} holds white space or quotes.", remedy="encode them"
        )
    return text
