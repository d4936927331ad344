"""Tests of rollcall.media."""
