#!/usr/bin/env python3
"""Cuts the golden layer cases (float64) to a file small enough to commit (float32).

    make_subset.py FULL.safetensors OUT.safetensors

Cases marked 1 keep their first image only, and then no dictionary gradient, which is a sum over images.
"""
import json
import struct
import sys

CASES = {"odd_down": 1, "pointwise_down": 2, "five_tap_nopad": 2, "signed": 1, "elastic_net": 1, "three_steps": 1}


def main():
    with open(sys.argv[1], "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    table = [c for c in json.loads(header["__metadata__"]["cases"]) if c["name"] in CASES]
    out, blobs, at = {"__metadata__": {"cases": json.dumps(table)}}, [], 0
    for name, images in CASES.items():
        whole = header[name + ".x"]["shape"][0]
        for part in ("x", "w", "z", "dz", "dx", "dw"):
            entry = header[f"{name}.{part}"]
            begin, end = entry["data_offsets"]
            values = struct.unpack(f"<{(end - begin) // 8}d", data[begin:end])
            shape = list(entry["shape"])
            if part in ("x", "z", "dz", "dx"):
                values = values[:len(values) // whole * images]
                shape[0] = images
            elif part == "dw" and images < whole:
                continue
            blob = struct.pack(f"<{len(values)}f", *values)
            out[f"{name}.{part}"] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + len(blob)]}
            blobs.append(blob)
            at += len(blob)
    text = json.dumps(out).encode()
    text += b" " * (-len(text) % 8)
    with open(sys.argv[2], "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


if __name__ == "__main__":
    main()
