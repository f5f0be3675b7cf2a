"""The topics of one process: who is subscribed to each, and how those who are behind catch up."""
