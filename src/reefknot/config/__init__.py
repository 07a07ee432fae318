"""The server's settings: DTM's keys and names, and ours, as one frozen ``Config``.

``load`` puts it together from defaults, a YAML file, the environment and the command line.
docs/configuration.md lists every key.
"""

from reefknot.config.keys import Key, all_keys, env_name
from reefknot.config.load import Loaded, load
from reefknot.config.schema import Config, HttpMicroService, Log, MicroService, Store
from reefknot.config.secret import MASK, Secret, SecretUrl, mask

__all__ = [
    "MASK",
    "Config",
    "HttpMicroService",
    "Key",
    "Loaded",
    "Log",
    "MicroService",
    "Secret",
    "SecretUrl",
    "Store",
    "all_keys",
    "env_name",
    "load",
    "mask",
]
