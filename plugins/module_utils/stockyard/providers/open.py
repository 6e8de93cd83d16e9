# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choice of the provider by the scheme of a URI.

Only this module names providers; the imports are explicit, so that Ansible finds them.
"""

from __future__ import annotations

from ..errors import InvalidInput
from ..hypervisor.provider import Provider
from ..model.login import NOBODY, Login


def open_provider(uri: str, storage: str | None = None, login: Login = NOBODY) -> Provider:
    """Open a hypervisor.

    :param uri: ``qemu:///session``, ``qemu:///system``, ``vsphere://vcenter/datacenter/cluster`` or
        ``memory:///file``.
    :param storage: directory or datastore of the disks; if not given, the provider's default.
    :param login: the user who opens it, for hypervisors that require a login.
    :raises InvalidInput: if no provider supports the URI.
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
        f"{uri!a} is not the URI of a supported hypervisor.",
        remedy="use qemu:///session, qemu:///system, vsphere://vcenter/datacenter/cluster or "
        "memory:///file",
    )
