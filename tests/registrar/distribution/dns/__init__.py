"""Tests of registrar.distribution.dns."""
