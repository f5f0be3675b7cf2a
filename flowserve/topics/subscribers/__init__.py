"""WebSockets as subscribers: those of flowserve, and those of other servers."""
