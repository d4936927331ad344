"""What can be wrong with our own tables, in words."""


class DatabaseProblem(Exception):
    """Our own tables cannot be made, or are not as this version wants them; the text says which and what to do."""
