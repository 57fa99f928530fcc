#!/usr/bin/env python3
"""compare_decode.py CSC_PACK COMPARE SHARED [ROUNDS]: packs the photographs of SHARED three ways and compares them with
whole-file decoding by libjpeg-turbo and by Pillow. See compare_decode.c."""
import os
import subprocess
import sys
import tempfile

PACK, COMPARE, SHARED = sys.argv[1:4]
TAR = f"{SHARED}/data/imagenet-sample/imagenet-sample-240.tar"
if not os.path.exists(TAR):
    print(f"skipped: no {TAR}")
    sys.exit(77)
with tempfile.TemporaryDirectory(prefix="csc-compare-") as folder:
    sets = {"short256": ["--resize", "short:256"], "original": [], "jpeg": ["--codec", "jpeg"]}
    for name, options in sets.items():
        subprocess.run([PACK, "imagefolder", TAR, f"{folder}/{name}", "--root", "train", *options], check=True,
                       stdout=subprocess.DEVNULL)
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "compare_pillow.py")
    pythons = [python for python in (sys.executable, "/usr/bin/python3")
               if subprocess.run([python, "-c", "import PIL, numpy"], stderr=subprocess.DEVNULL).returncode == 0]
    sys.exit(subprocess.run([COMPARE, f"'{pythons[0]}' '{script}'" if pythons else "", TAR, *(f"{folder}/{name}" for name in sets), *sys.argv[4:]]).returncode)
