"""The other sites: what they say of themselves, and the phones that are registered there."""
