"""Text as bytes: windows of a corpus, bits per byte beside general-purpose compressors."""

from reformer.tasks.text.task import TextConfig, TextEvalOptions, TextTask

__all__ = ["TextConfig", "TextEvalOptions", "TextTask"]
