"""What hostile peers can make the server spend: time, CPU, memory. `python -m compliance.costs --help`"""
