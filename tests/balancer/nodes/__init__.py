"""Tests of balancer.nodes."""
