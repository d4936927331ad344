"""Avalanches."""
