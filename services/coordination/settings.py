"""How a process reaches the coordination store, and the times of the election."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from services.common.settings import Secret, ServiceSettings

Positive = Annotated[int, msgspec.Meta(ge=1)]


class CoordinationSettings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shared by every process of a deployment."""

    TABLE: ClassVar[str] = "coordination"

    driver: Literal["gateway", "etcd3"] = "gateway"
    """`gateway`: etcd's JSON gateway, over any member. `etcd3`: the package of that name, one endpoint, no failover."""
    endpoints: tuple[str, ...] = ()
    """Client addresses of the members; those of the deployment's sites unless set."""
    username: str = ""
    """For an etcd with authentication; goes together with `password`."""
    password: Secret = Secret("")
    """See `username`."""
    ca_file: Path = Path()
    """Authority that the members' certificates must be signed by, PEM; unset: the system's."""
    cert_file: Path = Path()
    """Certificate that this process shows to the members, PEM; goes together with `key_file`."""
    key_file: Path = Path()
    """See `cert_file`."""
    request_timeout_ms: Positive = 300
    """How long one member may take to answer before the next one is asked."""

    lease_ttl_seconds: Annotated[float, msgspec.Meta(ge=1)] = 2.0
    """For how long a region stays active after its last renewal; the store may round it up, and its answer counts."""
    renew_interval_ms: Positive = 400
    """How often the holder renews."""
    clock_rate_bound: Annotated[float, msgspec.Meta(ge=0, lt=0.1)] = 0.001
    """By how much clocks may run at different rates (rho)."""
    quiesce_ms: Positive = 100
    """Time that an effect under way may still take (sigma): a holder stops that much before its lease could end."""

    def check(self) -> str | None:
        """Renewing once through all members must fit into the lease (r + k q <= T (1 - rho) - sigma, k at least 3)."""
        members = max(3, len(self.endpoints))
        budget_ms = self.lease_ttl_seconds * 1000 * (1 - self.clock_rate_bound) - self.quiesce_ms
        if self.renew_interval_ms + members * self.request_timeout_ms > budget_ms:
            return (
                f"renew_interval_ms ({self.renew_interval_ms}) plus {members} times request_timeout_ms "
                f"({self.request_timeout_ms}) does not fit into a lease of {self.lease_ttl_seconds:g} s"
            )
        if bool(self.username) != bool(self.password):
            return "username and password go together"
        if (self.cert_file == Path()) != (self.key_file == Path()):
            return "cert_file and key_file go together"
        return None
