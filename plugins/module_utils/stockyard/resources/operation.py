# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Operations on a yard: values that are planned in check mode, and applied otherwise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

from ..clock import Deadline
from ..model import naming
from ..model.observation import Observation
from ..planning.plan import Plan
from .context import Context

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Operation(Protocol[T_co]):
    """A change of a yard. Its result is a plan, or contains one."""

    @property
    def ctx(self) -> Context:
        """Return the yard."""

    def plan(self) -> T_co:
        """Return the actions that :meth:`apply` would take now. Changes nothing."""

    def apply(self, deadline: Deadline, /) -> T_co:
        """Change the yard; return the actions that were taken."""


def run(operation: Operation[T], *, check: bool, timeout: float) -> T:
    """Plan an operation in check mode, else apply it. Nothing else knows check mode.

    :param timeout: seconds for everything.
    """
    return operation.plan() if check else operation.apply(operation.ctx.deadline(timeout))


@dataclass(frozen=True)
class LockedOperation(ABC):
    """An operation on one object under the lock of that object: it observes once, makes its plan
    from the observation, and carries the plan out.

    :param ctx: the yard.
    """

    ctx: Context
    # Seconds to wait for another controller that holds the lock.
    LOCK_WAIT: ClassVar[float] = 5.0

    def __post_init__(self) -> None:
        # A name that no object can have is an error in check mode too.
        naming.line("lock", self.lock)

    def plan(self) -> Plan:
        """Return the actions that :meth:`apply` would take now. Changes nothing."""
        return self.plan_from(self.ctx.provider.observe(self.ctx.owner))

    def apply(self, deadline: Deadline) -> Plan:
        """Carry the plan out; return the actions that were taken.

        :raises Busy: if another controller works on the object.
        """
        with self.ctx.provider.exclusive(self.lock, deadline.within(self.LOCK_WAIT)):
            observation = self.ctx.provider.observe(self.ctx.owner)
            return self.carry_out(self.plan_from(observation), observation, deadline)

    @property
    @abstractmethod
    def lock(self) -> str:
        """Return the name of the lock."""

    @abstractmethod
    def plan_from(self, observation: Observation) -> Plan:
        """Return the plan for an observation."""

    @abstractmethod
    def carry_out(self, todo: Plan, observation: Observation, deadline: Deadline) -> Plan:
        """Carry out a plan; return the actions that were taken."""
