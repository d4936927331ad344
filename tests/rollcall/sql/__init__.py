"""Tests of rollcall.sql."""
