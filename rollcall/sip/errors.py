"""What is wrong with a message, and the status that says so to its sender (RFC 3261 §21)."""


class ParseError(ValueError):
    """Something received is not what the grammar allows. `status` is the answer it deserves."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
