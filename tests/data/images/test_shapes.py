"""Pictures that need no data."""

import numpy as np

from reformer.data.images import load_images, open_images
from reformer.data.synthetic import N_SHAPES, shape_picture


def test_shapes_are_drawn_once_and_differ(tmp_path):
    corpus = load_images("shapes", tmp_path, 16)
    again = load_images("shapes", tmp_path, 16)
    assert again.directory == corpus.directory
    found = [open_images(corpus, split) for split in N_SHAPES]
    assert [len(pictures) for pictures in found] == list(N_SHAPES.values())
    everything = np.concatenate(found)
    assert len(np.unique(everything.reshape(len(everything), -1), axis=0)) == len(everything)
    assert np.array_equal(everything[401], shape_picture(401, 16))


def test_a_picture_has_large_areas_of_one_colour():
    picture = shape_picture(3, 64).reshape(-1, 3)
    _, counts = np.unique(picture, axis=0, return_counts=True)
    assert counts.max() > 40


def test_a_name_is_looked_for_in_the_cache(tmp_path):
    from .helpers import some_pictures, write_folder

    write_folder(tmp_path / "images" / "mine", {**some_pictures(4, "train/"), **some_pictures(2, "val/", 50)})
    corpus = load_images("mine", tmp_path, 8)
    assert len(open_images(corpus, "validation")) == 2
