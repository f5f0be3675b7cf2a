"""Topics between machines, through NATS with JetStream. Nothing here is imported unless a URL asks for it."""
