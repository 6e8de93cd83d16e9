# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lifting the authorization policy's list of images while a template is made, and putting it back
before the freeze.

What its owner puts into a template is not what the list is for: it is for those who have its forks.
What is to be put back is on disk, so that it is put back after a boot in between too.
"""

from __future__ import annotations

import json
import os
import subprocess

POLICY = "etc/stockyard/authorization.json"
KEPT = "var/lib/stockyard/authorization.json"
UNIT = "stockyard-authz.service"


def lift(root: str) -> bool:
    """Let any image in, and builds; returns whether that was to be done."""
    policy, kept = os.path.join(root, POLICY), os.path.join(root, KEPT)
    if not os.path.exists(policy) or os.path.exists(kept):
        return False
    text = _read(policy)
    rules = json.loads(text)
    lifted = {**rules, "images": [], "by_digest": False, "build": True}
    if lifted == rules:
        return False
    _write(kept, text)
    _write(policy, json.dumps(lifted))
    _restart()
    return True


def restore(root: str) -> bool:
    """Put the policy back; returns whether that was to be done."""
    policy, kept = os.path.join(root, POLICY), os.path.join(root, KEPT)
    if not os.path.exists(kept):
        return False
    _write(policy, _read(kept))
    os.unlink(kept)
    _restart()
    return True


def _restart() -> None:
    """The plugin reads its policy when it starts. dockerd asks again for as long as it is not
    there.
    """
    subprocess.run(["systemctl", "restart", UNIT], check=True, timeout=120)


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as handle:
        return handle.read()


def _write(path: str, text: str) -> None:
    """Write a whole file or none; it is on disk when this returns."""
    beside = path + ".new"
    with open(beside, "w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(beside, path)
