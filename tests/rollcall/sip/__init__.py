"""Tests of SIP itself, without sockets."""
