"""Every option: what there is, how values are read and checked, and where they come from."""

from flowserve.config.config import Config

__all__ = ["Config"]
