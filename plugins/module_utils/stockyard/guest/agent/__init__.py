# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity agent: runs in the guest, frozen while it waits, and makes a fork a host of its own.

The same files are imported by the SDK's tests and copied into guest images. They use only the
standard library and ``cryptography``, and nothing of the rest of the SDK.
"""
