"""How much of the new phones this node should have, and how that is said to DNS, LVS and HAProxy alike."""
