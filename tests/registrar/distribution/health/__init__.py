"""Tests of registrar.distribution.health."""
