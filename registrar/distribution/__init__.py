"""How phones come to a node, and come back when one is gone: DNS, weights, virtual addresses, tickles."""
