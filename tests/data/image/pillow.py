#!/usr/bin/env python3
"""What Pillow makes of things, for comparison.

pillow.py resize FILE: cases of resizing, each: six u32 (kind, width, height, W, H, 0), the image and the
    result, both 8-bit RGB.  kind 0: resize to W x H; kind 1: evaluation, W = H: short side to
    round(W * 256 / 224), centre crop.
pillow.py images DIR: DIR/in/CLASS/FILE, images of many kinds, and DIR/expected/CLASS/FILE.rgb, two u32
    (width, height) and the pixels after convert("RGB"). Likewise in DIR/sound, files with faults that do not touch
    pixels, and in DIR/webp, if this Pillow writes WebP. In DIR/refused are files without pixels to be had.
"""
import io
import os
import random
import struct
import sys
import zlib

from PIL import Image, features

from compare_mutants import chunk, png


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


def sound_files():
    """Files that are odd or cut where no pixels are."""
    rng = random.Random(3)
    smooth = noise(rng, "RGB", 9, 7).resize((61, 47), Image.BICUBIC)
    jpeg, plain = encoded(smooth, "JPEG", quality=90), encoded(smooth, "PNG")
    lines = [rng.randbytes(600) for _ in range(20)] * 10
    small = bytearray(zlib.compress(b"".join(b"\0" + line for line in lines), 9))
    small[0] = 8  # a window of 256 bytes, it says
    small[1] = 31 - small[0] * 256 % 31
    yield "text-for-the-end-marker.jpg", jpeg[:-2] + b"text behind the pixels"
    yield "cut-in-checksum.png", plain[:-12 - 4 - 2]
    yield "wrong-crc-of-pixels.png", plain[:-12 - 1] + bytes([plain[-13] ^ 1]) + plain[-12:]
    yield "window-too-small.png", png(200, 200, 8, 2, b"", data=bytes(small))


def webp_files():
    rng = random.Random(4)
    smooth = noise(rng, "RGB", 9, 7).resize((61, 47), Image.BICUBIC)
    clear = noise(rng, "RGBA", 9, 7).resize((33, 21), Image.BICUBIC)
    yield "clear.webp", encoded(clear, "WEBP", quality=60)
    yield "clear-lossless.webp", encoded(clear, "WEBP", lossless=True)
    yield "large.webp", encoded(smooth.resize((300, 211)), "WEBP", quality=50, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0")
    yield "lossless.webp", encoded(smooth, "WEBP", lossless=True)
    yield "lossy.webp", encoded(smooth, "WEBP", quality=80)


def refused_files():
    rng = random.Random(5)
    smooth = noise(rng, "RGB", 9, 7).resize((61, 47), Image.BICUBIC)
    jpeg, plain = encoded(smooth, "JPEG", quality=90), encoded(smooth, "PNG")
    scan = jpeg.index(b"\xff\xda") + 14 + 200
    gamma = chunk(b"gAMA", struct.pack(">I", 45455))
    rows = bytes(47 * (1 + 61 * 3))
    yield "stray-marker.jpg", jpeg[:scan] + b"\xff\xa4" + jpeg[scan + 2:]
    yield "gamma-crc.png", plain[:33] + gamma[:-1] + bytes([gamma[-1] ^ 1]) + plain[33:]
    yield "no-checksum.png", png(61, 40, 8, 2, rows)[:-13] + plain[-13:]
    yield "rows-missing.png", png(61, 48, 8, 2, rows)
    yield "side.png", png(70000, 1, 1, 0, bytes(8751))
    yield "pixels.png", png(12000, 11500, 1, 0, bytes(1501))
    yield "a.gif", encoded(smooth, "GIF")
    yield "a.bmp", encoded(smooth, "BMP")
    if features.check("webp_anim"):
        yield "animated.webp", encoded(smooth, "WEBP", save_all=True, append_images=[smooth.rotate(90)])
        yield "cut.webp", encoded(smooth, "WEBP", quality=80)[:-20]


def write_images(folder):
    sets = [("", list(image_files())), ("/sound", [("a", *pair) for pair in sound_files()])]
    if features.check("webp"):
        sets.append(("/webp", [("a", *pair) for pair in webp_files()]))
    for name, files in sets:
        write_set(folder + name, files)
    os.mkdir(f"{folder}/refused")
    for name, data in refused_files():
        with open(f"{folder}/refused/{name}", "wb") as out:
            out.write(data)


def write_set(folder, files):
    for name, file, data in files:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        for path, content in ((f"{folder}/in/{name}/{file}", data),
                              (f"{folder}/expected/{name}/{file}.rgb",
                               struct.pack("<2I", *image.size) + image.tobytes())):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as out:
                out.write(content)


if __name__ == "__main__":
    {"resize": resize_cases, "images": write_images}[sys.argv[1]](sys.argv[2])
