"""Being written: the driver on the package `etcd3`."""

from services.common.settings import SettingsError
from services.coordination.etcd import EtcdGatewayStore
from services.coordination.settings import CoordinationSettings


class Etcd3Store(EtcdGatewayStore):
    """Not there yet."""

    @classmethod
    def from_settings(cls, endpoint: str, settings: CoordinationSettings) -> "Etcd3Store":
        """Refuse."""
        raise SettingsError(f"the driver etcd3 is not there yet ({endpoint}, {settings.driver})")
