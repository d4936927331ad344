"""Writes what keepalived, HAProxy and nftables need to know of the cluster."""
