"""Pages in real browsers, whose workers are killed."""
