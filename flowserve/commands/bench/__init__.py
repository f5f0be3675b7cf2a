"""The command `flowserve bench`: put an echo server under load, check every echo, and tell how long they took."""
