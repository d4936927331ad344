"""MySQL and MariaDB: one primary and its replicas, asked in threads so that the reactor never waits for them."""
