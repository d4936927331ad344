"""The ground floor of the registrar and the balancer: SIP, flows, cluster state and operations."""
