# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel that all containers share: its settings, and what it need not know."""

from __future__ import annotations

from ...model.recipe import GuestFile
from ...model.security import Settings
from .part import NOTHING, Part

# After procps' 99-protect-links.conf, which says less of some: the last one counts (sysctl.d(5)).
SYSCTL = "/etc/sysctl.d/99-stockyard.conf"
MODPROBE = "/etc/modprobe.d/stockyard.conf"
# None of them is in the way of Docker. Names and meanings: Documentation/admin-guide/sysctl of the
# kernel.
SYSCTLS = {
    "kernel.randomize_va_space": "2",
    "kernel.kptr_restrict": "2",
    "kernel.dmesg_restrict": "1",
    "kernel.perf_event_paranoid": "3",
    "kernel.unprivileged_bpf_disabled": "1",
    "kernel.yama.ptrace_scope": "2",
    "kernel.sysrq": "0",
    "kernel.kexec_load_disabled": "1",
    "net.core.bpf_jit_harden": "2",
    "net.ipv4.conf.all.accept_redirects": "0",
    "net.ipv4.conf.all.accept_source_route": "0",
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.tcp_syncookies": "1",
    "net.ipv6.conf.all.accept_redirects": "0",
    "dev.tty.ldisc_autoload": "0",
    "vm.unprivileged_userfaultfd": "0",
    "vm.mmap_min_addr": "65536",
    "fs.protected_hardlinks": "1",
    "fs.protected_symlinks": "1",
    "fs.protected_fifos": "2",
    "fs.protected_regular": "2",
    "fs.suid_dumpable": "0",
}
# Protocols and file systems that a program could have the kernel load, and that containers do
# without.
MODULES = (
    "ax25",
    "can",
    "cramfs",
    "dccp",
    "freevxfs",
    "hfs",
    "hfsplus",
    "jffs2",
    "n_hdlc",
    "netrom",
    "rds",
    "rose",
    "sctp",
    "tipc",
    "udf",
    "usb-storage",
    "x25",
)


def sysctls(settings: Settings) -> dict[str, str]:
    """The kernel settings of a profile and those of the user, which win."""
    if not settings.kernel:
        return dict(settings.sysctls)
    unprivileged = "1" if settings.user_namespaces == "rootless" else "0"
    return {**SYSCTLS, "kernel.unprivileged_userns_clone": unprivileged, **settings.sysctls}


def part(settings: Settings) -> Part:
    """Its files."""
    files = {}
    if found := sysctls(settings):
        # The hyphen: a kernel that does not know a setting is no error.
        files[SYSCTL] = GuestFile(
            "".join(f"-{key} = {value}\n" for key, value in sorted(found.items()))
        )
    if settings.kernel:
        files[MODPROBE] = GuestFile("".join(f"install {name} /bin/false\n" for name in MODULES))
    return Part(files=files) if files else NOTHING
