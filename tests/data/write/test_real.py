#!/usr/bin/env python3
"""test_real.py CSC_PACK TEST_FORMAT SHARED: packs the photographs and the CIFAR-10 archive of SHARED/data, where they are;
TEST_FORMAT tries 10,000 changes of single bytes of the packed photographs, in both codecs."""
import json
import os
import subprocess
import sys
import tempfile

PACK, FORMAT, SHARED = sys.argv[1], sys.argv[2], os.environ.get("CSC_SHARED", sys.argv[3])
PHOTOS = f"{SHARED}/data/imagenet-sample/imagenet-sample-240.tar"
CIFAR = f"{SHARED}/data/cifar10/cifar10-test.tar.zst"
if not (os.path.exists(PHOTOS) and os.path.exists(CIFAR)):
    print(f"skipped: no {PHOTOS} or {CIFAR}")
    sys.exit(77)


def run(*arguments):
    return subprocess.run([PACK, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def info(path, folder):
    run("info", path, "--json", f"{folder}/info.json")
    with open(f"{folder}/info.json") as file:
        return json.load(file)


with tempfile.TemporaryDirectory(prefix="csc-real-") as out:
    said = run("imagefolder", PHOTOS, f"{out}/photos", "--root", "train")
    assert "240 images of 240 classes" in said and "6 images: grey" in said, said
    assert "240 images in 240 blocks" in run("verify", f"{out}/photos", "--deep")
    whole = info(f"{out}/photos", out)
    assert whole["samples"] == 240 and whole["width"] == 0 and whole["counts"] == [1] * 240, whole
    assert whole["bytes"] < 0.6 * whole["decoded_bytes"], whole
    said = run("imagefolder", PHOTOS, f"{out}/small", "--root", "train", "--resize", "short:256")
    assert "made smaller" in said and info(f"{out}/small", out)["bytes"] < 0.6 * whole["bytes"], said
    for codec in "rgbz", "jpeg":
        run("imagefolder", PHOTOS, f"{out}/{codec}", "--root", "train", "--codec", codec, "--shard-mb", "16")
        subprocess.run([FORMAT, f"{out}/{codec}", "10000"], check=True)
    run("imagefolder", CIFAR, f"{out}/cifar", "--root", "test")
    run("verify", f"{out}/cifar", "--deep")
    cifar = info(f"{out}/cifar", out)
    assert cifar["samples"] == 10000 and cifar["counts"] == [1000] * 10 and cifar["width"] == 32, cifar
    assert cifar["classes"] == "airplane automobile bird cat deer dog frog horse ship truck".split(), cifar
print("real data: packed and verified")
