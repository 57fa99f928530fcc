#!/usr/bin/env python3
"""csz.py DIR: reads a dataset as data/format/FORMAT.md describes it, checks every hash, and lists its samples.

It prints one line per sample: number, label, width, height, and the XXH64 of its pixels (rgbz) or of its file (jpeg). It needs
only Python and libzstd. It is meant to be read beside FORMAT.md and is not fast.
"""
import ctypes
import ctypes.util
import json
import struct
import sys

ZSTD = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
ZSTD.ZSTD_decompress.restype = ZSTD.ZSTD_findFrameCompressedSize.restype = ctypes.c_size_t
ZSTD.ZSTD_getFrameContentSize.restype = ctypes.c_ulonglong
ZSTD.ZSTD_decompress.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
ZSTD.ZSTD_findFrameCompressedSize.argtypes = ZSTD.ZSTD_getFrameContentSize.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def expect(condition, *what):
    if not condition:
        raise ValueError(" ".join(str(w) for w in what))


def xxh64(data):
    """XXH64 with seed 0, written from its specification."""
    p1, p2, p3, p4, p5 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
    mask, n, at = (1 << 64) - 1, len(data), 0

    def rotate(v, r):
        return (v << r | v >> 64 - r) & mask

    def turn(lane, word):
        return rotate((lane + word * p2) & mask, 31) * p1 & mask

    h = p5
    if n >= 32:
        lanes = [p1 + p2 & mask, p2, 0, -p1 & mask]
        while at + 32 <= n:
            lanes = [turn(lane, word) for lane, word in zip(lanes, struct.unpack_from("<4Q", data, at))]
            at += 32
        h = sum(rotate(lane, r) for lane, r in zip(lanes, (1, 7, 12, 18))) & mask
        for lane in lanes:
            h = ((h ^ turn(0, lane)) * p1 + p4) & mask
    h = h + n & mask
    while at + 8 <= n:
        h = (rotate(h ^ turn(0, struct.unpack_from("<Q", data, at)[0]), 27) * p1 + p4) & mask
        at += 8
    if at + 4 <= n:
        h = (rotate(h ^ struct.unpack_from("<I", data, at)[0] * p1 & mask, 23) * p2 + p3) & mask
        at += 4
    for byte in data[at:]:
        h = rotate(h ^ byte * p5 & mask, 11) * p1 & mask
    h = (h ^ h >> 33) * p2 & mask
    h = (h ^ h >> 29) * p3 & mask
    return h ^ h >> 32


def frames(block):
    """The contents of the zstd frames of a block."""
    parts = []
    while block:
        length, size = ZSTD.ZSTD_findFrameCompressedSize(block, len(block)), ZSTD.ZSTD_getFrameContentSize(block, len(block))
        expect(length <= len(block) and size <= 1 << 29, "a frame without end or size")
        out = ctypes.create_string_buffer(size or 1)
        expect(ZSTD.ZSTD_decompress(out, size, block, length) == size, "a damaged frame")
        parts.append(out.raw[:size])
        block = block[length:]
    return parts


def rgb(payload, width, height, band):
    """Decodes rgbz residuals to interleaved pixels."""
    out = bytearray()
    for top in range(0, height, band):
        rows = min(band, height - top)
        planes, base = [], top * width * 3
        for p in range(3):
            plane = bytearray(payload[base + p * width * rows:base + (p + 1) * width * rows])
            for i in range(width, width * rows):
                plane[i] = (plane[i] + plane[i - width]) & 255
            planes.append(plane)
        g, r, b = planes
        out += bytes(v for i in range(width * rows) for v in ((r[i] + g[i]) & 255, g[i], (b[i] + g[i]) & 255))
    return bytes(out)


def read_block(block, raw_bytes, count, codec):
    """The samples [(label, width, height, pixels or file)] of a block whose hash has been checked."""
    parts = frames(block)
    raw, at, samples = b"".join(parts), 0, []
    expect(len(raw) == raw_bytes, "a block of another size")
    for _ in range(count):
        label, version, flags, zero, width, height, band, zero2, size, zero3 = struct.unpack_from("<IBBHIIIIII", raw, at)
        expect((version, flags, zero, zero2, zero3) == (2, 0, 0, 0, 0), "a record of another version")
        payload = raw[at + 32:at + 32 + size]
        expect(len(payload) == size and (size == 3 * width * height if codec == 1 else band == 0), "a payload's size")
        if codec == 1 and count == 1 and height > band:
            bands = [32] + [3 * width * min(band, height - top) for top in range(0, height, band)]
            expect([len(p) for p in parts] == bands, "frames that are not the bands")
        samples.append((label, width, height, rgb(payload, width, height, band) if codec == 1 else payload))
        at += 32 + size
    expect(at == len(raw), "bytes behind the last record")
    return samples


def read_dataset(path):
    """Returns (index, samples). Raises ValueError if anything differs from FORMAT.md."""
    text = open(f"{path}/index.json", "rb").read()
    index, samples = json.loads(text), []
    expect(text[-20:-4].decode() == index["hash"] == f"{xxh64(text[:-20]):016x}", "index.json: damaged")
    codec = {"rgbz": 1, "jpeg": 2}[index["codec"]]
    for shard in index["shards"]:
        data, base = open(f"{path}/{shard['name']}", "rb").read(), len(samples)
        header = struct.unpack_from("<8sIIQQI", data)
        table, blocks = header[4:]
        expect(header[:4] == (b"\x89CSZ\r\n\x1a\n", 2, codec, shard["samples"]), shard["name"], "header")
        expect((len(data), table + 32 * blocks, blocks) == (shard["bytes"], len(data), shard["blocks"]), "sizes")
        own = struct.unpack_from("<Q", data, 56)[0]
        expect(own == xxh64(data[:56] + bytes(8) + data[table:]) == int(shard["hash"], 16), "hash of the table")
        at = 64
        for b in range(blocks):
            offset, size, raw_bytes, first, count, digest = struct.unpack_from("<QIIIIQ", data, table + 32 * b)
            expect(offset == at and base + first == len(samples), shard["name"], "block", b, "is not where it should be")
            block = data[offset:offset + size]
            expect(digest == xxh64(block), shard["name"], "block", b, "damaged")
            samples += read_block(block, raw_bytes, count, codec)
            at += size
        expect(at == table and len(samples) - base == shard["samples"], shard["name"], "ends elsewhere")
    counts = [sum(sample[0] == c for sample in samples) for c in range(len(index["classes"]))]
    expect(len(samples) == index["samples"] and counts == index["counts"], "counts")
    return index, samples


if __name__ == "__main__":
    for number, (label, width, height, payload) in enumerate(read_dataset(sys.argv[1])[1]):
        print(number, label, width, height, f"{xxh64(payload):016x}")
