"""The authoritative name server for the SIP domains, which knows sites, their load, and who is near to which."""
