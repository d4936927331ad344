"""What is let in when all phones come back at once: so much that everybody is answered in time, the rest later."""
