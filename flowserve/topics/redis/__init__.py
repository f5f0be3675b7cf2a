"""Topics between machines, through Redis. Nothing here is imported unless a URL asks for it."""
