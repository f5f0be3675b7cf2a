"""What the backplanes on servers elsewhere share, such as Redis and NATS."""
