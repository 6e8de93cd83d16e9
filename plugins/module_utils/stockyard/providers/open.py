# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""URI scheme to provider. The only place that names providers; imports are explicit, so that
Ansible finds them.
"""

from __future__ import annotations

from ..errors import InvalidInput
from ..hypervisor.provider import Provider
from ..model.login import NOBODY, Login


def open_provider(uri: str, storage: str | None = None, login: Login = NOBODY) -> Provider:
    """Open a hypervisor.

    :param uri: ``qemu:///session``, ``qemu:///system``, ``vsphere://vcenter/datacenter/cluster`` or
        ``memory:///file``.
    :param storage: where disks are kept: a directory, or a datastore; the provider's default when
        not given.
    :param login: who opens it, where that is asked.
    :raises InvalidInput: when no provider knows the URI.
    """
    scheme = uri.partition(":")[0].lower()
    if scheme == "qemu":
        from .libvirt.provider import open_provider as open_libvirt

        return open_libvirt(uri, storage)
    if scheme == "vsphere":
        from .vsphere.provider import open_provider as open_vsphere

        return open_vsphere(uri, storage, login)
    if scheme == "memory":
        from .memory.provider import open_provider as open_memory

        return open_memory(uri)
    raise InvalidInput(
        f"{uri!a} names no hypervisor that is known.",
        remedy="use qemu:///session, qemu:///system, vsphere://vcenter/datacenter/cluster or "
        "memory:///file",
    )
