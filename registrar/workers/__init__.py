"""Several registrars on one machine that are one to their phones: workers sharing the ports, and their supervisor."""
