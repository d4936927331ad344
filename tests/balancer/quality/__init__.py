"""Tests of balancer.quality."""
