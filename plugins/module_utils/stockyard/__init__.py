# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""stockyard: container hosts as cattle. The public names of the SDK."""

from __future__ import annotations

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
    LeaseExpired,
    MissingDependency,
    NotFound,
    OperationRefused,
    OutOfSpace,
    PoolQuotaExceeded,
    StockyardError,
    UnforeseenError,
    Unsupported,
)
from .leasing import HeldLease
from .model.cloud_image import CloudImage
from .model.fleet import FleetSpec, SingleSpec
from .model.host import HostSpec
from .model.image import BuildOptions, ImageSpec
from .model.lease import LeaseSpec
from .model.login import Login
from .model.placements import Hypervisor
from .model.pool import PoolSpec
from .model.provision import Provision
from .model.repository import Repository
from .model.security import Limits, Policy, SecuritySpec
from .model.template import Hardware, TemplateSpec
from .model.update import UpdateSpec
from .model.volume import VolumeSpec, VolumeUse
from .planning.declaration import Declaration, FleetTerm, PoolTerm, TemplateTerm, VolumeTerm
from .planning.plan import Action, Plan
from .resources.certificates.clients import Client
from .result import Result
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
    "LeaseExpired",
    "LeaseSpec",
    "Limits",
    "Login",
    "MissingDependency",
    "NotFound",
    "OperationRefused",
    "OutOfSpace",
    "Plan",
    "Policy",
    "PoolQuotaExceeded",
    "PoolSpec",
    "PoolTerm",
    "Provision",
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
