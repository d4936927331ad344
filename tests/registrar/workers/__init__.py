"""Tests of the workers and their supervisor."""
