"""Pictures as sequences of bytes: any folder or archive of them, and the downsampled ImageNet in its official forms."""

from reformer.data.images.decoding import picture_grid, pillow, write_png
from reformer.data.images.preparing import check_images, load_images, open_images, read_images

__all__ = ["check_images", "load_images", "open_images", "picture_grid", "pillow", "read_images", "write_png"]
