"""The registrar: it knows where each phone is, and sends calls there."""
