#!/usr/bin/env python3
"""compare_mutants.py PROGRAM [COUNT [SEED [KEEP]]]: COUNT JPEGs and PNGs, mutated from SEED, decoded by decode_images.c in
one process and by Pillow: accepted by both with the same pixels, or refused by both. Prints how many are which; every
difference must be of a kind listed in KINDS, with its reason, else it fails. KEEP is a folder for the files that differ.

    /usr/bin/python3 tests/data/image/compare_mutants.py build/tests/data/image/decode-images 10000
"""
import collections
import io
import os
import random
import re
import struct
import subprocess
import sys
import time
import warnings
import zlib

try:
    from PIL import Image, features, JpegImagePlugin, PngImagePlugin, UnidentifiedImageError
except ImportError:
    print("skipped: no Pillow")
    sys.exit(77)

# (what csc-pack does, what it says if it refuses and Pillow says if it accepts, why that is right)
KINDS = [
    ("refuses", "no checksum of its pixels is right",
     "PNG: neither the CRC nor zlib's checksum of the pixels is right, and Pillow asks for neither"),
    ("refuses", "Not enough image data|file ends too early", "PNG: rows are missing, which Pillow leaves black"),
    ("refuses", "missing IHDR|Missing IHDR|Missing PLTE|out of place|duplicate|unhandled critical chunk",
     "PNG: chunks that must be there are missing, elsewhere, twice, or not known; Pillow reads on"),
    ("refuses", "at most 65500 a side", "PNG: a header with a size beyond the limits; Pillow leaves the missing rows black"),
    ("refuses", "Invalid IHDR data", "PNG: a method of compression or filters that does not exist; Pillow does not look"),
    ("refuses", "PLTE: invalid|Invalid palette", "PNG: an empty palette, or one that ends inside a colour"),
    ("refuses", "PNG unsigned integer out of range", "PNG: a chunk longer than the format allows"),
    ("accepts", "Truncated pHYs|unpack_from requires|index out of range|Truncated File Read|in (zTXt|iCCP|iTXt) chunk",
     "PNG: a chunk that has nothing to do with pixels is damaged inside, its CRC is right"),
    ("accepts", "no marker found", "JPEG: between segments a marker that has no content; libjpeg knows it"),
    ("other pixels", "black beyond the palette", "PNG: indices beyond the palette's end: black, as in newer Pillow"),
]


def noise(rng, mode, width, height):
    per = len(Image.new(mode, (1, 1)).tobytes())
    return Image.frombytes(mode, (width, height), rng.randbytes(per * width * height))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, color, rows, interlace=0, extra=b"", pieces=1, data=None):
    """A PNG of filtered rows, or of compressed data, in that many IDAT chunks."""
    data = data or zlib.compress(rows, 6)
    size = -(-len(data) // pieces)
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra +
            b"".join(chunk(b"IDAT", data[i:i + size]) for i in range(0, len(data), size)) + chunk(b"IEND", b""))


def filtered(rng, height, row_bytes):
    """Rows of smooth bytes, each behind a filter of its own."""
    return b"".join(bytes([rng.randrange(5)]) + bytes(rng.randrange(4) for _ in range(row_bytes)) for _ in range(height))


def interlaced(rng, width, height, bits):
    rows = b""
    for x, y, dx, dy in (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2):
        across, down = len(range(x, width, dx)), len(range(y, height, dy))
        rows += filtered(rng, down, (across * bits + 7) // 8) if across else b""
    return rows


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def seeds(rng):
    """The files that are mutated."""
    smooth = noise(rng, "RGB", 9, 7).resize((61, 47), Image.BICUBIC)
    rough = noise(rng, "RGB", 40, 30)
    large = noise(rng, "RGB", 20, 15).resize((200, 150), Image.BICUBIC)
    grey, cmyk = smooth.convert("L"), noise(rng, "CMYK", 8, 8).resize((33, 21))
    for quality, options in (75, {}), (90, {"subsampling": 0}), (85, {"subsampling": 1}), (95, {"optimize": True}):
        for image in smooth, rough, large:
            yield encoded(image, "JPEG", quality=quality, **options)
            yield encoded(image, "JPEG", quality=quality, progressive=True, **options)
    exif = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
    for image in grey, cmyk, large.convert("L"):
        yield encoded(image, "JPEG", exif=exif, icc_profile=rng.randbytes(300))
        yield encoded(image, "JPEG", progressive=True)
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "a picture", zip=True)
    info.add_itxt("Author", "somebody")
    for image in smooth, rough, grey, grey.convert("1"), Image.merge("LA", (grey, grey)), noise(rng, "RGBA", 13, 11):
        yield encoded(image, "PNG", pnginfo=info, dpi=(72, 72), icc_profile=rng.randbytes(300))
        yield encoded(image, "PNG", optimize=True)
    for colors in 2, 4, 16, 200:
        yield encoded(smooth.quantize(colors), "PNG")
        yield encoded(smooth.quantize(colors), "PNG", transparency=1)
    gamma = chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"tEXt", b"Comment\0made for a test")
    palette = chunk(b"PLTE", rng.randbytes(768)) + chunk(b"tRNS", rng.randbytes(200))
    for depth, color, channels in ((1, 0, 1), (2, 0, 1), (4, 0, 1), (8, 0, 1), (16, 0, 1), (8, 2, 3), (16, 2, 3),
                                   (8, 3, 1), (8, 4, 2), (16, 4, 2), (8, 6, 4), (16, 6, 4)):
        extra = gamma + (palette if color == 3 else b"")
        bits, pieces = depth * channels, rng.choice((1, 2, 5))
        yield png(31, 23, depth, color, filtered(rng, 23, (31 * bits + 7) // 8), 0, extra, pieces)
        yield png(31, 23, depth, color, interlaced(rng, 31, 23, bits), 1, extra, pieces)


# ---- mutations ----

def any_bytes(rng, data, other):
    """What a bad disk, cable or editor does, whatever the format."""
    at, count = rng.randrange(len(data)), rng.randint(1, rng.choice((1, 4, 64)))
    what = rng.randrange(7)
    if what == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif what == 1:
        data[at:at + count] = rng.randbytes(len(data[at:at + count]))
    elif what == 2:
        del data[at:at + count]
    elif what == 3:
        data[at:at] = data[at:at + count]
    elif what == 4:
        data[at:at] = rng.randbytes(count)
    elif what == 5:
        del data[at if rng.randrange(2) else max(0, len(data) - count):]
    else:
        data[at:at + count] = other[at:at + count]


def jpeg_parts(rng, data):
    """Stray markers, header fields, segments lost or repeated, scans missing, no end marker."""
    marks = [i for i in range(2, len(data) - 1) if data[i] == 255 and data[i + 1] not in (0, 255)]
    at, what = rng.choice(marks) if marks else 0, rng.randrange(6)
    scan = data.find(b"\xff\xda")
    if what == 0 and 0 < scan < len(data) - 4:
        where = rng.randrange(scan, len(data) - 2)
        data[where:where + 2] = bytes([255, rng.randrange(256)])
    elif what == 1:
        data[min(len(data) - 1, at + rng.randrange(20))] = rng.randrange(256)
    elif what == 2 and at + 4 <= len(data):
        length = 2 + int.from_bytes(data[at + 2:at + 4], "big")
        part = data[at:at + length]
        if rng.randrange(2):
            del data[at:at + length]
        else:
            data[at:at] = part
    elif what == 3:
        data[-2:] = rng.choice((b"", b"\0" * 20, b"\xff" * 20, b"text behind it", rng.randbytes(100)))
    elif what == 4:
        data += rng.randbytes(rng.randint(1, 300))
    elif what == 5:
        data[at:] = b"\xff\xd9"


def split_png(data):
    parts, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at:at + 4], "big")
        parts.append([bytes(data[at + 4:at + 8]), data[at + 8:at + 8 + length]])
        at += 12 + length
    return parts


def png_parts(rng, data):
    """Chunks changed with or without their CRC, lost, repeated, moved; pixels changed inside zlib's stream."""
    parts = split_png(data)
    if not parts:
        return
    at, what = rng.randrange(len(parts)), rng.randrange(6)
    if what == 0 and parts[at][1]:
        parts[at][1][rng.randrange(len(parts[at][1]))] = rng.randrange(256)
    elif what == 1:
        del parts[at]
    elif what == 2:
        parts.insert(rng.randrange(len(parts) + 1), [parts[at][0], parts[at][1][:]])
    elif what == 3:
        parts.insert(rng.randrange(len(parts) + 1), parts.pop(at))
    elif what == 4:
        parts[at][0] = rng.choice((b"abCd", b"ABCD", b"IDAT", b"PLTE", b"tRNS", b"tEXt", b"zTXt", b"iCCP", b"IEND"))
    elif what == 5:
        del parts[at][1][rng.randrange(len(parts[at][1]) + 1):]
    data[8:] = b"".join(chunk(kind, bytes(content)) for kind, content in parts)
    if rng.randrange(4) == 0:  # a CRC is wrong, and nothing else
        at = data.find(rng.choice(parts)[0] if parts else b"IDAT")
        length = int.from_bytes(data[at - 4:at], "big")
        if at >= 0 and at + 4 + length < len(data):
            data[at + 4 + length] ^= 1 << rng.randrange(8)


def mutant(files, seed, number):
    rng = random.Random(f"{seed} {number}")
    data, other = bytearray(rng.choice(files)), rng.choice(files)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        if data and rng.randrange(2):
            any_bytes(rng, data, other)
        elif data[:2] == b"\xff\xd8":
            jpeg_parts(rng, data)
        elif data[:4] == b"\x89PNG":
            png_parts(rng, data)
    return bytes(data)


# ---- both ways ----

def why_unknown(data):
    try:
        (JpegImagePlugin.JpegImageFile if data[:2] == b"\xff\xd8" else PngImagePlugin.PngImageFile)(io.BytesIO(data))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "unknown"


def by_pillow(data):
    """(width, height, pixels), or what it says."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG")).convert("RGB")
        return image.size + (image.tobytes(),)
    except UnidentifiedImageError:
        return why_unknown(data)
    except Exception as error:  # whatever it is, it is not an image
        return f"{type(error).__name__}: {error}"


def by_program(program, data):
    program.stdin.write(struct.pack("<I", len(data)) + data)
    program.stdin.flush()
    code, = struct.unpack("<I", program.stdout.read(4))
    if code == 0:
        width, height = struct.unpack("<II", program.stdout.read(8))
        return width, height, program.stdout.read(3 * width * height)
    text = program.stdout.read(struct.unpack("<I", program.stdout.read(4))[0]).decode(errors="replace")
    return f"{code}: {text}"


def describe_pixels(data, ours, theirs):
    if ours[:2] != theirs[:2]:
        return f"{ours[:2]}, not {theirs[:2]}"
    pixels = [tuple(ours[2][i:i + 3]) for i in range(0, len(ours[2]), 3) if ours[2][i:i + 3] != theirs[2][i:i + 3]]
    if data[:4] == b"\x89PNG" and data[25] == 3 and set(pixels) == {(0, 0, 0)}:
        return "black beyond the palette"
    return f"{len(pixels)} pixels differ"


def kind_of(data, ours, theirs):
    """How both agree, or the kind of the difference."""
    accepted = isinstance(ours, tuple), isinstance(theirs, tuple)
    if accepted == (True, True) and ours == theirs:
        return "accepted by both, the same pixels"
    if accepted == (False, False) and ours.startswith("65: "):
        return "refused by both"
    does = {(True, True): "other pixels", (True, False): "accepts", (False, True): "refuses"}.get(accepted, "fails")
    text = {"refuses": ours, "accepts": theirs}.get(does) or describe_pixels(data, ours, theirs)
    for action, pattern, why in KINDS:
        if action == does and re.search(pattern, text):
            return f"csc-pack {does}: {why}"
    return f"NOT EXPECTED: csc-pack {does}: {text}"


def main():
    count, seed = (int(sys.argv[i]) if len(sys.argv) > i else (300, 1)[i - 2] for i in (2, 3))
    version = subprocess.run([sys.argv[1], "version"], stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
    if version != features.version_feature("libjpeg_turbo"):
        print(f"skipped: libjpeg-turbo {version}, but Pillow's is {features.version_feature('libjpeg_turbo')}")
        return 77
    files, kinds, began = list(seeds(random.Random(seed))), collections.Counter(), time.time()
    with subprocess.Popen(sys.argv[1:2], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        for number in range(-len(files), count):
            data = files[number + len(files)] if number < 0 else mutant(files, seed, number)
            form = "JPEG" if data[:2] == b"\xff\xd8" else "PNG" if data[:4] == b"\x89PNG" else "other"
            ours, theirs = by_program(program, data), by_pillow(data)
            kind = kind_of(data, ours, theirs)
            kinds[form, kind] += number >= 0
            if number < 0 and not kind.startswith("accepted"):
                kinds[form, f"NOT EXPECTED: an unharmed file: {ours if isinstance(ours, str) else theirs}"] += 1
            if len(sys.argv) > 4 and " by both" not in kind:
                with open(f"{sys.argv[4]}/{number:06d}.{form}", "wb") as out:
                    out.write(data)
                print(f"{number:06d}.{form}", kind, "| csc-pack:", ours if isinstance(ours, str) else ours[:2], "| Pillow:",
                      theirs if isinstance(theirs, str) else theirs[:2])
    print(f"{count} files mutated from {len(files)}, seed {seed}, Pillow {Image.__version__}: {time.time() - began:.1f} s")
    for (form, kind), times in sorted(kinds.items()):
        print(f"{times:6d}  {form:5}  {kind}")
    return program.returncode or any("NOT EXPECTED" in kind for form, kind in kinds)


if __name__ == "__main__":
    sys.exit(main())
