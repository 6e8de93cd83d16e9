# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity agent: runs in the guest, is frozen while it waits, and gives a fork its identity.

The SDK's tests import the same files that are copied into guest images. The files use only the
standard library and ``cryptography``, and no other part of the SDK.
"""
