"""Photographs are read upright and in RGB, whatever EXIF rotation, colour mode or bit depth their files have."""
import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

import shared.images
from shared.errors import InputError
from shared.files import read_lines
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


SHORT, LONG = 3, 4                                   # types of EXIF values: 16 and 32 bits


def encoded(format="JPEG", picture=PICTURE, **options):
    content = io.BytesIO()
    picture.save(content, format, **options)
    return content.getvalue()


def orientation_exif(value, kind=SHORT, order="<"):
    """An EXIF table with one entry, its orientation. The order of the bytes is < (little endian) or >."""
    header = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HIH", 42, 8, 1)          # 42, offset 8, one entry
    stored = struct.pack(order + "HH", value, 0) if kind == SHORT else struct.pack(order + "I", value)
    return header + struct.pack(order + "HHI", 274, kind, 1) + stored + bytes(4)


def jpeg_with(exif):
    """The picture as a JPEG with this EXIF table, in a segment after the first two bytes."""
    plain, content = encoded(), b"Exif\0\0" + exif
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + plain[2:]


def png_with(kind, content, place=33):
    """The picture as a PNG with another chunk: at 33, after the header, or at -12, after the pixels."""
    plain = encoded("PNG")
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return plain[:place] + chunk + plain[place:]


UPRIGHT, TURNED = (40, 20), (20, 40)


@pytest.mark.parametrize("kind, value, expected", [
    (SHORT, 1, UPRIGHT), (SHORT, 3, UPRIGHT), (SHORT, 6, TURNED), (SHORT, 8, TURNED),
    (SHORT, 0, UPRIGHT), (SHORT, 9, UPRIGHT), (SHORT, 255, UPRIGHT), (LONG, 0, UPRIGHT), (LONG, 65537, UPRIGHT)])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("write", [jpeg_with, lambda exif: png_with(b"eXIf", exif),
                                   lambda exif: png_with(b"eXIf", exif, -12)], ids=["jpeg", "png", "after the pixels"])
def test_an_orientation_that_is_not_1_to_8_means_1(tmp_path, kind, value, expected, order, write):
    (tmp_path / "a").write_bytes(write(orientation_exif(value, kind, order)))
    assert image_size(tmp_path / "a") == read_image(tmp_path / "a").shape[1::-1] == expected


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", [6, 65542])        # 65542 is 65536 + 6
def test_an_orientation_of_32_bits_is_read_as_opencv_reads_it(tmp_path, value, order):
    # It reads 16 bits: for little endian the low ones, 6 of both values, for big endian the high ones, 0 and 1.
    (tmp_path / "a.jpg").write_bytes(jpeg_with(orientation_exif(value, LONG, order)))
    expected = TURNED if order == "<" else UPRIGHT
    assert image_size(tmp_path / "a.jpg") == read_image(tmp_path / "a.jpg").shape[1::-1] == expected


@pytest.mark.parametrize("content", [encoded(), encoded(progressive=True), encoded("PNG"), encoded("WEBP"),
                                     encoded("BMP"), encoded("TIFF")])
def test_the_end_of_a_file_is_missing(tmp_path, content):
    for missing in (1, 2, 20):
        (tmp_path / "a").write_bytes(content[:-missing])
        for read in (image_size, read_image):
            with pytest.raises(InputError, match="/a: cannot be read as an image"):
                read(tmp_path / "a")


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("more", [b"\0", bytes(5000), b"a camera's notes", encoded(picture=PICTURE.resize((9, 9)))])
def test_more_bytes_after_the_end_do_no_harm(tmp_path, format, more):
    (tmp_path / "a").write_bytes(encoded(format) + more)
    assert image_size(tmp_path / "a") == read_image(tmp_path / "a").shape[1::-1] == UPRIGHT


@pytest.mark.parametrize("content, expected", [
    (encoded(), UPRIGHT), (encoded("PNG"), UPRIGHT), (jpeg_with(orientation_exif(8)), TURNED),
    (jpeg_with(orientation_exif(8, order=">")), TURNED),
    (encoded("MPO", save_all=True, append_images=[PICTURE.resize((9, 9))]), UPRIGHT)])
def test_usual_files_are_not_decoded(tmp_path, monkeypatch, content, expected):
    (tmp_path / "a").write_bytes(content)
    assert read_image(tmp_path / "a").shape[1::-1] == expected
    monkeypatch.setattr(shared.images, "read_image", None)
    assert image_size(tmp_path / "a") == expected


@pytest.mark.parametrize("content", [
    png_with(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2_000_000))), png_with(b"pHYs", b"\0\0"),
    png_with(b"gAMA", b""), png_with(b"iCCP", b"profile\0\0" + zlib.compress(bytes(2_000_000))),
    png_with(b"eXIf", b"not a table"), jpeg_with(b"not a table"), jpeg_with(b"II*\0\xff\xff\xff\xff")],
    ids=["large text", "short pHYs", "short gAMA", "large profile", "EXIF in PNG", "EXIF in JPEG", "EXIF too short"])
def test_odd_metadata_does_no_harm(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert image_size(tmp_path / "a") == read_image(tmp_path / "a").shape[1::-1] == UPRIGHT


@pytest.mark.parametrize("limit", [100, 500])        # the picture has 800 pixels: an error from Pillow, a warning
def test_large_pictures_are_read(tmp_path, monkeypatch, limit):
    PICTURE.save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert image_size(tmp_path / "a.png") == UPRIGHT


def test_what_cannot_be_read_is_said(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.jpg")                 # opening it would wait for somebody who writes
    for path, message in [(tmp_path / "pipe.jpg", "pipe.jpg: is a pipe or a device, not a file"),
                          (tmp_path, ": is a folder, not a file"), ("a\0b\nc", r"a\\x00b\\nc: no such file"),
                          (tmp_path / ("a" * 300), ": file name too long"),
                          (tmp_path / "pipe.jpg" / "a", "pipe.jpg/a: no such file")]:
        for read in (image_size, read_image, read_lines):
            with pytest.raises(InputError, match=message) as error:
                read(path)
            assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="file name too long"):
        list_images(tmp_path / ("a" * 300))
    (tmp_path / "a.jpg").write_bytes(b"")

    def refuse(*given):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(os, "listdir", refuse)
    for read, path in [(image_size, "a.jpg"), (read_image, "a.jpg"), (read_lines, "a.jpg"), (list_images, "")]:
        with pytest.raises(InputError, match=f"{tmp_path / path}: permission denied"):
            read(tmp_path / path)


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
