"""What operators see and set: configuration, logs, metrics and the admin HTTP site."""
