"""Plays the choice of media nodes at scale, in a world whose truth it knows."""
