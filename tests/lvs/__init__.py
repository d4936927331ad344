"""What keepalived and LVS do with the files that we write, on directors in User-Mode Linux: make test-lvs."""
