"""Tests of domains, aliases and call forwarding."""
