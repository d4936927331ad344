"""Tests of flows, transports and resolution."""
