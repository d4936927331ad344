"""The whole cluster as real processes on loopback, for tests, benchmarks and people. The command is tools/lab."""
