"""The referee: what a request costs Rollcall, Kamailio and the bare kernel, measured in one run."""
