"""Our own tables: domains, aliases, forwarding, calls. In MySQL beside the subscribers', or in an SQLite file."""
