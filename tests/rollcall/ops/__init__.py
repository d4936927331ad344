"""Tests of rollcall.ops."""
