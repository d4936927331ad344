"""Calls through media nodes: which node, the SDP that leads there, and what has to be undone afterwards."""
