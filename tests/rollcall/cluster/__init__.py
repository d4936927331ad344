"""Tests of Redis access, leases and what else the nodes of a cluster share."""
