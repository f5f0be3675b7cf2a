"""The command `flowserve connect`: talk to a WebSocket server from a terminal, or from a script."""
