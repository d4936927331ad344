"""What the balancer and the registrars both know of media nodes: snapshots, the choice, how rtpengine is spoken to."""
