"""The command `flowserve bench`: put an echo server under load, check every echo, and report how long they took."""
