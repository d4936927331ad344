"""Tests of registrar.media."""
