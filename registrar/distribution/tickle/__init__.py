"""Wakes the idle phones of a host that died silently, when this host has taken over the address that they speak to."""
