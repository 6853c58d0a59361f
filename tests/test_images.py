"""Photographs are read upright and in RGB, whatever EXIF rotation, colour mode or bit depth their files have."""
import cv2
import numpy as np
import pytest
from PIL import Image

from shared.errors import InputError
from shared.images import image_size, list_images, read_image

# 40 pixels wide and 20 high. The left half is red, the right half is blue.
PICTURE = Image.fromarray(np.repeat([[[200, 30, 30]] * 20 + [[30, 30, 200]] * 20], 20, 0).astype(np.uint8))


def left_and_right(path):
    """The colours of a pixel in the left half and of one in the right half of the image read from the path."""
    image = read_image(path)
    assert image.shape == (20, 40, 3) and image.dtype == np.uint8 and image_size(path) == (40, 20)
    return image[10, 5].tolist(), image[10, 34].tolist()


@pytest.mark.parametrize("orientation, transpose", [
    (2, Image.Transpose.FLIP_LEFT_RIGHT), (3, Image.Transpose.ROTATE_180), (4, Image.Transpose.FLIP_TOP_BOTTOM),
    (5, Image.Transpose.TRANSPOSE), (6, Image.Transpose.ROTATE_90), (7, Image.Transpose.TRANSVERSE),
    (8, Image.Transpose.ROTATE_270)])
def test_exif_rotation_is_undone(tmp_path, orientation, transpose):
    exif = Image.Exif()
    exif[274] = orientation
    PICTURE.transpose(transpose).save(tmp_path / "a.jpg", exif=exif, quality=95)
    left, right = left_and_right(tmp_path / "a.jpg")
    assert left == pytest.approx([200, 30, 30], abs=12) and right == pytest.approx([30, 30, 200], abs=12)


@pytest.mark.parametrize("name, mode", [("a.jpg", "RGB"), ("a.jpg", "CMYK"), ("a.png", "RGB"), ("a.png", "RGBA"),
                                        ("a.png", "P"), ("a.bmp", "RGB"), ("a.webp", "RGB"), ("a.tif", "RGB")])
def test_colour_modes(tmp_path, name, mode):
    PICTURE.convert(mode).save(tmp_path / name)
    left, right = left_and_right(tmp_path / name)
    assert left == pytest.approx([200, 30, 30], abs=30) and right == pytest.approx([30, 30, 200], abs=30)


def test_grey_and_sixteen_bits(tmp_path):
    # Grey is .299 red + .587 green + .114 blue.
    #     left   .299 x 200 + .587 x 30 + .114 x 30  = 80.8
    #     right  .299 x 30  + .587 x 30 + .114 x 200 = 49.4
    PICTURE.convert("L").save(tmp_path / "grey.jpg", quality=95)
    left, right = left_and_right(tmp_path / "grey.jpg")
    assert left == pytest.approx([80.8] * 3, abs=3) and right == pytest.approx([49.4] * 3, abs=3)
    # With 16 bits the value v is stored as 257 v, so that 255 becomes 65535.
    cv2.imwrite(str(tmp_path / "deep.png"), np.asarray(PICTURE)[..., ::-1].astype(np.uint16) * 257)
    assert left_and_right(tmp_path / "deep.png") == ([200, 30, 30], [30, 30, 200])


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_the_header_agrees_with_the_pixels(tmp_path, name):
    exif = Image.Exif()
    exif[274] = 6                                    # 6: to see the image upright, rotate it by 90 degrees clockwise
    PICTURE.save(tmp_path / name, exif=exif)
    assert image_size(tmp_path / name) == read_image(tmp_path / name).shape[1::-1]


@pytest.mark.parametrize("share", [0, 0.01, 0.5])
def test_a_file_cut_short_raises_an_error_of_one_line(tmp_path, share):
    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    path = tmp_path / "a.jpg"
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[:int(share * len(content))])
    with pytest.raises(InputError) as error:
        read_image(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_missing_files_and_empty_folders(tmp_path):
    for call in (read_image, image_size, list_images):
        with pytest.raises(InputError, match="nothing.jpg"):
            call(tmp_path / "nothing.jpg")
    with pytest.raises(InputError, match="no images in this folder"):
        list_images(tmp_path)
    PICTURE.save(tmp_path / "b.jpg")
    PICTURE.save(tmp_path / "a.PNG")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "._b.jpg").write_text("")
    assert [path.name for path in list_images(tmp_path)] == ["a.PNG", "b.jpg"]
