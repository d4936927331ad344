"""Tests of registrar.distribution.directors."""
