"""Tests of registrar.distribution.tickle."""
