"""Pictures as sequences of bytes: bits per dim of whole pictures, drawing and completing them."""

from reformer.tasks.images.drawing import DrawOptions
from reformer.tasks.images.task import ImagesConfig, ImagesEvalOptions, ImageTask

__all__ = ["DrawOptions", "ImageTask", "ImagesConfig", "ImagesEvalOptions"]
