#!/usr/bin/env python3
"""What Pillow makes of things, for comparison.

pillow.py resize FILE: cases of resizing, each: six u32 (kind, width, height, W, H, 0), the image and the
    result, both 8-bit RGB.  kind 0: resize to W x H; kind 1: evaluation, W = H: short side to
    round(W * 256 / 224), centre crop.
pillow.py images DIR: DIR/in/CLASS/FILE, images of many kinds, and DIR/expected/CLASS/FILE.rgb, two u32
    (width, height) and the pixels after convert("RGB").
"""
import io
import os
import random
import struct
import sys

from PIL import Image


def noise(rng, mode, width, height):
    per = len(Image.new(mode, (1, 1)).tobytes())
    return Image.frombytes(mode, (width, height), rng.randbytes(per * width * height))


def resize_cases(path):
    rng = random.Random(1)
    sizes = [(1, 1, 1, 1), (1, 1, 9, 9), (500, 3, 1, 7), (7, 7, 7, 3), (7, 7, 3, 7), (640, 480, 224, 224)]
    sizes += [tuple(rng.randint(1, 120) for _ in range(4)) for _ in range(150)]
    sizes += [(rng.randint(200, 700), rng.randint(200, 700), 224, 224) for _ in range(4)]
    with open(path, "wb") as out:
        for width, height, w, h in sizes:
            image = noise(rng, "RGB", width, height)
            result = image.resize((w, h), Image.BILINEAR)
            out.write(struct.pack("<6I", 0, width, height, w, h, 0) + image.tobytes() + result.tobytes())
        for _ in range(40):
            width, height, side = rng.randint(1, 300), rng.randint(1, 300), rng.randint(1, 96)
            image = noise(rng, "RGB", width, height)
            short = round(side * 256 / 224)
            if width <= height:
                w, h = short, max(1, int(short * height / width))
            else:
                w, h = max(1, int(short * width / height)), short
            left, top = round((w - side) / 2), round((h - side) / 2)
            result = image.resize((w, h), Image.BILINEAR).crop((left, top, left + side, top + side))
            out.write(struct.pack("<6I", 1, width, height, side, side, 0) + image.tobytes() + result.tobytes())


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def image_files():
    """(class, file name, bytes) of images of every kind."""
    rng = random.Random(2)
    smooth = noise(rng, "RGB", 9, 7).resize((61, 47), Image.BICUBIC)
    grey = smooth.convert("L")
    palette = smooth.quantize(32)
    deep = Image.new("I", (20, 10))
    deep.putdata([rng.choice([0, 1, 200, 255, 256, 300, 65535]) for _ in range(200)])
    yield "colour", "plain.jpg", encoded(smooth, "JPEG", quality=90)
    yield "colour", "progressive.JPEG", encoded(smooth, "JPEG", quality=70, progressive=True)
    yield "colour", "full-chroma.jpeg", encoded(smooth, "JPEG", subsampling=0)
    yield "colour", "plain.png", encoded(smooth, "PNG")
    yield "colour", "pixel.png", encoded(noise(rng, "RGB", 1, 1), "PNG")
    yield "grey", "grey.jpg", encoded(grey, "JPEG")
    yield "grey", "grey.png", encoded(grey, "PNG")
    yield "grey", "bits.png", encoded(grey.convert("1"), "PNG")
    yield "grey", "with-alpha.png", encoded(Image.merge("LA", (grey, grey)), "PNG")
    yield "grey", "sixteen.png", encoded(deep, "PNG")
    yield "odd", "cmyk.jpg", encoded(noise(rng, "CMYK", 8, 8).resize((33, 21)), "JPEG")
    yield "odd", "palette.png", encoded(palette, "PNG")
    yield "odd", "palette-clear.png", encoded(palette, "PNG", transparency=3)
    yield "odd", "rgba.png", encoded(noise(rng, "RGBA", 13, 11), "PNG")
    yield "odd", "really-a.png.jpg", encoded(smooth, "PNG")
    yield "odd", "really-a.jpg.png", encoded(smooth, "JPEG")
    yield "odd", "nested/below.png", encoded(noise(rng, "RGB", 5, 3), "PNG")


def write_images(folder):
    for name, file, data in image_files():
        image = Image.open(io.BytesIO(data)).convert("RGB")
        for path, content in ((f"{folder}/in/{name}/{file}", data),
                              (f"{folder}/expected/{name}/{file}.rgb",
                               struct.pack("<2I", *image.size) + image.tobytes())):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as out:
                out.write(content)


if __name__ == "__main__":
    {"resize": resize_cases, "images": write_images}[sys.argv[1]](sys.argv[2])
