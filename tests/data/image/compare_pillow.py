#!/usr/bin/env python3
"""compare_pillow.py TAR: the processor seconds that Pillow and NumPy take for one random-resized-crop to 224 pixels,
flip and normalisation of every JPEG in a tar; the files are in memory when the clock starts."""
import io
import math
import random
import tarfile
import sys
import time

import numpy
from PIL import Image

MEAN, STD = numpy.float32([.485, .456, .406]), numpy.float32([.229, .224, .225])


def box(width, height):
    for _ in range(10):
        area = width * height * random.uniform(.08, 1)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            x, y = random.randint(0, width - w), random.randint(0, height - h)
            return x, y, x + w, y + h
    return 0, 0, width, height


def main():
    with tarfile.open(sys.argv[1]) as tar:
        files = [tar.extractfile(member).read() for member in tar if member.isfile()]
    files = [data for data in files if data[:3] == b"\xff\xd8\xff"]
    began = time.process_time()
    for data in files:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        image = image.crop(box(*image.size)).resize((224, 224), Image.BILINEAR)
        if random.random() < .5:
            image = image.transpose(Image.FLIP_LEFT_RIGHT)
        (numpy.asarray(image, numpy.float32) / 255 - MEAN) / STD
    print(time.process_time() - began)


if __name__ == "__main__":
    random.seed(1)
    main()
