"""Ways to break the code that the tests of this folder must notice (tests/mutate.py)."""

from mutation import Mutation

MUTATIONS = (
    Mutation(
        name="pictures: planes are not interleaved",
        file="data/images/reading.py",
        old="planes.transpose(0, 2, 3, 1)",
        new="planes.reshape(-1, size, size, 3)",
        tests="test_preparing.py",
    ),
    Mutation(
        name="pictures: EXIF is not looked at",
        file="data/images/decoding.py",
        old="turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))",
        new="turn = None",
        tests="test_decoding.py",
    ),
    Mutation(
        name="pictures: cut from the top left",
        file="data/images/decoding.py",
        old="left, top = (width - side) // 2, (height - side) // 2",
        new="left, top = 0, 0",
        tests="test_decoding.py",
    ),
    Mutation(
        name="pictures: reduced by another filter",
        file="data/images/decoding.py",
        old="Resampling.BOX",
        new="Resampling.NEAREST",
        tests="test_decoding.py",
    ),
    Mutation(
        name="pictures: over black",
        file="data/images/decoding.py",
        old="_WHITE = (255, 255, 255, 255)",
        new="_WHITE = (0, 0, 0, 255)",
        tests="test_decoding.py",
    ),
    Mutation(
        name="pictures: Pillow's warning of a bomb is not minded",
        file="data/images/decoding.py",
        old='warnings.simplefilter("error", Image.DecompressionBombWarning)',
        new='warnings.simplefilter("ignore", Image.DecompressionBombWarning)',
        tests="test_decoding.py",
    ),
    Mutation(
        name="pictures: an entry may expand to anything",
        file="data/images/reading.py",
        old="if len(data) > MAX_FILE_BYTES:",
        new="if len(data) < 0:",
        tests="test_preparing.py",
    ),
    Mutation(
        name="pictures: split by name",
        file="data/images/preparing.py",
        old="split = rule.split_of(name, digest_of(raster))",
        new="split = rule.split_of(name, hashlib.sha256(name.encode()).digest())",
        tests="test_preparing.py",
    ),
    Mutation(
        name="pictures: prepared for one size, used for all",
        file="data/images/preparing.py",
        old='f"pictures {_FORMAT} {size} {here}"',
        new='f"pictures {_FORMAT} {here}"',
        tests="test_preparing.py",
    ),
    Mutation(
        name="pictures: a zip's backslashes are part of a name",
        file="data/images/reading.py",
        old='info.filename.replace("\\\\", "/")',
        new="info.filename",
        tests="test_preparing.py::test_a_zip_with_the_separators_of_windows_gives_the_same",
    ),
)
