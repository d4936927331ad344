"""Domains, aliases and call forwarding out of our own tables, read in threads and remembered in memory."""
