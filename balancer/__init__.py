"""Sends every call to the media node that should carry it."""
