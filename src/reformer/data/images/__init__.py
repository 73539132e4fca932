"""Pictures as sequences of bytes: any folder or archive of them, and the downsampled ImageNet in its official forms."""

from reformer.data.images.decoding import pillow
from reformer.data.images.preparing import check_images, load_images, open_images, read_images

__all__ = ["check_images", "load_images", "open_images", "pillow", "read_images"]
