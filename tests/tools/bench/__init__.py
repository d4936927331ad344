"""The bench: what is tested of the referee."""
