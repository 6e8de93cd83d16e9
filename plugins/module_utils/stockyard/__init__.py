# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""stockyard: container hosts as cattle. The public names of the SDK."""

from __future__ import annotations

from .core.cloud_image import CloudImage
from .core.declaration import Declaration, FleetTerm, PoolTerm, TemplateTerm, VolumeTerm
from .core.fleet import FleetSpec, SingleSpec
from .core.host import HostSpec
from .core.image import BuildOptions, ImageSpec
from .core.lease import LeaseSpec
from .core.login import Login
from .core.plan import Action, Plan
from .core.pool import PoolSpec
from .core.provision import Provision
from .core.repository import Repository
from .core.security import Limits, Policy, SecuritySpec
from .core.spread import Hypervisor
from .core.template import Hardware, TemplateSpec
from .core.update import UpdateSpec
from .core.volume import VolumeSpec, VolumeUse
from .errors import (
    AddressTaken,
    Busy,
    Conflict,
    ConnectionFailed,
    ControllerError,
    DeadlineExceeded,
    GuestBroken,
    GuestError,
    HypervisorError,
    ImageError,
    InvalidInput,
    LeaseOver,
    MissingDependency,
    NotFound,
    OutOfSpace,
    PoolFull,
    Refused,
    StockyardError,
    UnforeseenError,
    Unsupported,
)
from .leasing import HeldLease
from .result import Result
from .services.clients import Client
from .yard import Yard

__all__ = [
    "Action",
    "AddressTaken",
    "BuildOptions",
    "Busy",
    "Client",
    "CloudImage",
    "Conflict",
    "ConnectionFailed",
    "ControllerError",
    "DeadlineExceeded",
    "Declaration",
    "FleetSpec",
    "FleetTerm",
    "GuestBroken",
    "GuestError",
    "Hardware",
    "HeldLease",
    "HostSpec",
    "Hypervisor",
    "HypervisorError",
    "ImageError",
    "ImageSpec",
    "InvalidInput",
    "LeaseOver",
    "LeaseSpec",
    "Limits",
    "Login",
    "MissingDependency",
    "NotFound",
    "OutOfSpace",
    "Plan",
    "Policy",
    "PoolFull",
    "PoolSpec",
    "PoolTerm",
    "Provision",
    "Refused",
    "Repository",
    "Result",
    "SecuritySpec",
    "SingleSpec",
    "StockyardError",
    "TemplateSpec",
    "TemplateTerm",
    "UnforeseenError",
    "Unsupported",
    "UpdateSpec",
    "VolumeSpec",
    "VolumeTerm",
    "VolumeUse",
    "Yard",
]
