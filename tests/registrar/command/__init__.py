"""Tests of the rollcall command."""
