"""Tests against real programs over loopback, and the harness that runs those programs."""
