"""Tests of whole clusters: real registrars, real Redis, and what goes wrong with them."""
