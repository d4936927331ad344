"""Tests of registrar.distribution."""
