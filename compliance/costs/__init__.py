"""What a hostile peer can make the server spend: time of the event loop, CPU, memory. `python -m compliance.costs --help`"""
