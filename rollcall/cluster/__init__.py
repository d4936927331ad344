"""What the nodes of a cluster share: Redis, leases that say which node lives, and how members know each other."""
