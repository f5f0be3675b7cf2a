"""The checks: functions that take a Site and raise when it does not do what users depend on."""
