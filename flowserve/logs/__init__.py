"""The log: its loggers, formats and streams. `--log-config` files name the two formatters by this package."""

from flowserve.logs.formatters import AccessFormatter, JSONFormatter

__all__ = ["AccessFormatter", "JSONFormatter"]
