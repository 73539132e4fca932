"""The one error this room raises for bad input."""


class DataError(ValueError):
    """Bad data or a bad request for data, told in one line: what was expected, what came, the nearest fix."""

    def __init__(self, message: str) -> None:
        # A file name may itself hold a line break; the command promises one line per error.
        super().__init__(" ".join(message.split()))


def reason(error: BaseException) -> str:
    """Why an operation failed, in a few words, without the errno and path that ``str(OSError)`` carries."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
