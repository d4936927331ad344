"""Tests of registrar.sites."""
