"""Tests of subscriptions to registrations."""
