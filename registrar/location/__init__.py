"""Where bindings are kept."""
