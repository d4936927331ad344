"""Tests of tools.simulate."""
