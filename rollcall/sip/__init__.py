"""SIP without I/O (RFC 3261): values in, values out; time comes as an argument."""
