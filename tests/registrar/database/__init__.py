"""Tests of our own tables."""
