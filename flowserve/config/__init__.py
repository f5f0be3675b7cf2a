"""The options: their declaration, the parsing and checking of values, and the sources of values."""

from flowserve.config.config import Config

__all__ = ["Config"]
