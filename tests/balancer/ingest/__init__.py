"""Tests of balancer.ingest."""
