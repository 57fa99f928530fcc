"""pack_images.py - images and archives made with Python's own library, and csc-pack run on them."""
import base64
import io
import os
import random
import re
import struct
import subprocess
import sys
import tarfile
import zlib

sys.path.insert(0, f"{os.path.dirname(os.path.abspath(__file__))}/../../scripts")
import csz

failures = checks = 0

# 24 x 16 pixels, made with Pillow
JPEG = {mode: base64.b64decode(text) for mode, text in {
    "rgb":
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1x"
        "eXBkeFxlZ2P/2wBDARESEhgVGC8aGi9jQjhCY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2P/wAAR"
        "CAAQABgDASIAAhEBAxEB/8QAFwAAAwEAAAAAAAAAAAAAAAAAAAUGBP/EAB8QAAEDAwUAAAAAAAAAAAAAAAADBGEBAiEFERIxUf/EABcBAAMB"
        "AAAAAAAAAAAAAAAAAAIDBAX/xAAeEQACAQMFAAAAAAAAAAAAAAAAAgQBAxIREyFBgf/aAAwDAQACEQMRAD8AlEWMG5FhA3QYwMUGHWCW224I"
        "jTtOxIjp0AVNjSlmOO9fACZ46VxZufTftTq4n//Z",
    "grey":
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1x"
        "eXBkeFxlZ2P/wAALCAAQABgBAREA/8QAFgABAQEAAAAAAAAAAAAAAAAABAUG/8QAHxAAAQMDBQAAAAAAAAAAAAAAAAMEYQECIQUREjFR/9oA"
        "CAEBAAA/AMoixgciwgajp0CkGMFFBh1gdY0pZjjvXw//2Q==",
    "cmyk":
        "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAQCwwODAoQDg0OEhEQExgoGhgWFhgxIyUdKDozPTw5Mzg3QEhcTkBEV0U3OFBtUVdfYmdoZz5NcXlw"
        "ZHhcZWdj/8AAFAgAEAAYBEMRAE0RAFkRAEsRAP/EABcAAQEBAQAAAAAAAAAAAAAAAAAGBAf/xAAlEAABAgYBAwUAAAAAAAAAAAAAAQUDERIV"
        "QWIEAiFCEyIxMoH/2gAOBEMATQBZAEsAAD8AkG7BM2jUhYMKs6AVDdgWjU3QW6vxBUt2BaNTdBYa/AHLm7BeWjUwtkKuQKhuwLRqVzY3Vy9o"
        "KluwLRqbHBy4TLETj+j1crlyRVhdCoidPx9lx27okl/JooP/2Q==",
}.items()}
# the same, to be shown turned by a quarter
TURNED = (JPEG["rgb"][:2] + b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0" +
          JPEG["rgb"][2:])


def check(condition, *about):
    global failures, checks
    checks += 1
    if not condition:
        failures += 1
        print("failed:", *about, file=sys.stderr)


def done(name):
    print(f"{name}: {checks} checks, {failures} failed")
    return 1 if failures or not checks else 0


def run(pack, *arguments, expect=0, says=None, **options):
    result = subprocess.run([pack, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    text = result.stdout + result.stderr
    check(result.returncode == expect, arguments, "exit code", result.returncode, "not", expect, text)
    check(says is None or re.search(says, text), arguments, "does not say", says, "but", text)
    if expect:
        lines = [line for line in result.stderr.splitlines() if ": warning: " not in line]
        check(len(lines) == 1, arguments, "says more or less than one line:", result.stderr)
    return text


def png(width, height, pixels, depth=8, colour=2):
    """colour 2 is RGB, 0 grey; pixels row by row, 16-bit values big-endian."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    row = len(pixels) // height
    lines = b"".join(b"\0" + pixels[y * row:(y + 1) * row] for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(lines, 1)) + chunk(b"IEND", b""))


def noise(rng, width, height):
    """Pixels that neither zstd nor PNG make much smaller."""
    return bytes(a & 0x3f | 0x40 for a in rng.randbytes(width * height * 3))


def add(tar, name, data, **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))


def tar_of(members, kind=tarfile.GNU_FORMAT):
    """The bytes of a tar of (name, data)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as tar:
        for name, data in members:
            add(tar, name, data)
    return out.getvalue()


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as out:
        out.write(data)


def imagenet(folder, classes, images, val, size=96, seed=1):
    """TRAIN.tar, VAL.tar and LABELS of PNGs named JPEG, as bytes: the names and order are those of the real ones.
    Returns ({class: [(name, pixels)]}, [(name, class, pixels)])."""
    rng, train, held = random.Random(seed), {}, []
    names = [f"n{1440764 + 7 * c:08d}" for c in range(classes)]
    inner = []
    for name in reversed(names):  # the archive need not be in order
        train[name] = [(f"{name}_{rng.randrange(10 ** 5)}{i}.JPEG", noise(rng, size, size)) for i in range(images)]
        inner.append((f"{name}.tar", tar_of([(n, png(size, size, p)) for n, p in train[name]])))
    write(f"{folder}/train.tar", tar_of(inner))
    for i in range(val):
        held.append((f"ILSVRC2012_val_{i + 1:08d}.JPEG", rng.choice(names), noise(rng, size, size)))
    shuffled = held[:]
    rng.shuffle(shuffled)
    write(f"{folder}/val.tar", tar_of([(n, png(size, size, p)) for n, _, p in shuffled]))
    write(f"{folder}/labels.txt", "".join(f"{c}\n" for _, c, _ in held).encode())
    return train, held


def read_dataset(path):
    """(index, [(label, width, height, pixels or file)]), every hash checked by scripts/csz.py."""
    try:
        return csz.read_dataset(path)
    except (OSError, ValueError) as error:
        check(False, path, error)
        return {}, []


def snapshot(folder):
    """{path: bytes} of all files below."""
    return {os.path.relpath(os.path.join(at, name), folder): open(os.path.join(at, name), "rb").read()
            for at, _, names in os.walk(folder) for name in names}


def differences(a, b):
    return sorted(set(a) ^ set(b)) + sorted(name for name in set(a) & set(b) if a[name] != b[name])
