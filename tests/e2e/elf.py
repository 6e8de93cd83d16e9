# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of one system call, for containers that have no compiler and no Python.

Each is a whole ELF executable for x86-64: it makes the call and exits with the error number, or
with 0.
"""

from __future__ import annotations

import struct

BASE = 0x400000
HEADERS = 64 + 56
# mov into rdi, rsi, rdx, r10, r8, r9: the arguments of a system call.
REGISTERS = (b"\x48\xbf", b"\x48\xbe", b"\x48\xba", b"\x49\xba", b"\x49\xb8", b"\x49\xb9")
SYSCALL = b"\x0f\x05"
# exit(rax < 0 ? -rax : 0)
END = b"\x48\x85\xc0\x78\x04\x31\xff\xeb\x05\x48\xf7\xd8\x89\xc7\xb8\x3c\0\0\0" + SYSCALL


def program(number: int, *arguments: int | bytes) -> bytes:
    """An executable.

    :param arguments: numbers, or bytes whose address is given.
    """
    size = len(arguments) * 10 + 10 + len(SYSCALL) + len(END)
    code, data = b"", b""
    for register, argument in zip(REGISTERS, arguments, strict=False):
        value = (
            BASE + HEADERS + size + len(data)
            if isinstance(argument, bytes)
            else argument & (1 << 64) - 1
        )
        data += argument + b"\0" * 8 if isinstance(argument, bytes) else b""
        code += register + struct.pack("<Q", value)
    code += b"\x48\xb8" + struct.pack("<Q", number) + SYSCALL + END
    whole = code + data
    return _headers(len(whole)) + whole


def _headers(size: int) -> bytes:
    """One segment that holds everything and may be read, written and run."""
    entry, total = BASE + HEADERS, HEADERS + size
    ident = b"\x7fELF\x02\x01\x01" + b"\0" * 9
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 7, 0, BASE, BASE, total, total, 0x1000)
