# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Suspension of the authorization policy's list of images while a template is built.

The list applies to the users of forks, not to the images that the operator preloads. The original
policy is on disk, so that it is also restored after a boot during the build.
"""

from __future__ import annotations

import json
import os
import subprocess

POLICY = "etc/stockyard/authorization.json"
BACKUP = "var/lib/stockyard/authorization.json"
UNIT = "stockyard-authz.service"


def suspend(root: str) -> bool:
    """Allow all images, and builds. Return whether the policy was changed."""
    policy, backup = os.path.join(root, POLICY), os.path.join(root, BACKUP)
    if not os.path.exists(policy) or os.path.exists(backup):
        return False
    text = _read(policy)
    rules = json.loads(text)
    open_rules = {**rules, "images": [], "by_digest": False, "build": True}
    if open_rules == rules:
        return False
    _write(backup, text)
    _write(policy, json.dumps(open_rules))
    _restart()
    return True


def restore(root: str) -> bool:
    """Restore the policy. Return whether it was suspended."""
    policy, backup = os.path.join(root, POLICY), os.path.join(root, BACKUP)
    if not os.path.exists(backup):
        return False
    _write(policy, _read(backup))
    os.unlink(backup)
    _restart()
    return True


def _restart() -> None:
    """Restart the plugin, which reads its policy only at its start. Until it answers, dockerd
    repeats its requests.
    """
    subprocess.run(["systemctl", "restart", UNIT], check=True, timeout=120)


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as handle:
        return handle.read()


def _write(path: str, text: str) -> None:
    """Write a file atomically and durably."""
    temporary = path + ".new"
    with open(temporary, "w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, path)
