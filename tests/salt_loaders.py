"""Salt's loaders over a minion's configuration, without a minion."""

import pytest
import salt.config
import salt.utils.event
from saltfactories.utils.functional import Loaders


def make_loaders(config):
    """Return the Loaders of the minion's configuration file ``config``."""
    with pytest.MonkeyPatch.context() as patch:
        # A fake: new loaders tell a minion of the synced modules, and Salt tries for 2 s to reach the one that no test has.
        patch.setattr(salt.utils.event.SaltEvent, "connect_pull", lambda *_, **__: False)
        return Loaders(salt.config.minion_config(str(config)))
