"""How messages travel: flows, the transports under them, timers and the way to a SIP server (RFC 3261 §18)."""
