"""Corruptions against definitions written anew in NumPy and Pillow: the deterministic ones within one grey level on 99% of
the pixels, noise by mean, variance and share of clipped values over 1,000 images; repeatable and independent per sample.

usage: test_corrupt.py CORRUPT_IMAGES [unittest arguments]
"""
import io
import subprocess
import sys
import unittest

try:
    import numpy as np
    from PIL import Image
except ImportError:
    print("skipped: NumPy or Pillow is not there")
    sys.exit(77)

PROGRAM = sys.argv.pop(1)

SIGMA = {"cifar": [.04, .06, .08, .09, .10], "imagenet": [.08, .12, .18, .26, .38]}
PHOTONS = {"cifar": [500, 250, 100, 75, 50], "imagenet": [60, 25, 12, 5, 3]}
IMPULSES = {"cifar": [.01, .02, .03, .05, .07], "imagenet": [.03, .06, .09, .17, .27]}
SPECKLE = {"cifar": [.06, .1, .12, .16, .2], "imagenet": [.15, .2, .35, .45, .6]}
BLUR = {"cifar": [.4, .6, .7, .8, 1], "imagenet": [1, 2, 3, 4, 6]}
DISK = {"cifar": [(.3, .4), (.4, .5), (.5, .6), (1, .2), (1.5, .1)],
        "imagenet": [(3, .1), (4, .5), (6, .5), (8, .5), (10, .5)]}
BRIGHT = {"cifar": [.05, .1, .15, .2, .3], "imagenet": [.1, .2, .3, .4, .5]}
CONTRAST = {"cifar": [.75, .5, .4, .3, .15], "imagenet": [.4, .3, .2, .1, .05]}
SATURATE = {"cifar": [(.3, 0), (.1, 0), (1.5, 0), (2, .1), (2.5, .2)],
            "imagenet": [(.3, 0), (.1, 0), (2, 0), (5, .1), (20, .2)]}
PIXELS = {"cifar": [.95, .9, .85, .75, .65], "imagenet": [.6, .5, .4, .3, .25]}
QUALITY = {"cifar": [80, 65, 58, 50, 40], "imagenet": [25, 18, 15, 10, 7]}


def photographs(count, side, seed):
    """Smooth fields of colour, edges, and some grain: (count, side, side, 3) bytes, some of them clipped."""
    draw = np.random.RandomState(seed)
    out = np.empty((count, side, side, 3), np.uint8)
    y, x = np.mgrid[0:side, 0:side] / side
    for image in out:
        field = np.zeros((side, side, 3))
        for _ in range(5):
            wave = np.sin(2 * np.pi * (draw.uniform(-3, 3) * x + draw.uniform(-3, 3) * y + draw.uniform()))
            field += wave[..., None] * draw.uniform(-.25, .25, 3)
        field[(draw.uniform(-1, 1) * x + draw.uniform(-1, 1) * y) > draw.uniform(-.3, .3)] += draw.uniform(-.4, .4, 3)
        image[:] = np.clip(255 * (.5 + field + .02 * draw.randn(side, side, 3)), 0, 255).astype(np.uint8)
    return out


def run(family, name, severity, images, seed=1, first=0):
    n, height, width, _ = images.shape
    done = subprocess.run([PROGRAM, family, f"{name}:{severity}", str(width), str(height), str(seed), str(first)],
                          input=images.tobytes(), stdout=subprocess.PIPE, check=True, timeout=300)
    return np.frombuffer(done.stdout, np.uint8).reshape(images.shape)


def truncated(values):
    return np.uint8(np.clip(values, 0, 1) * 255)


# ---- the definitions ----

def blur_axis(values, weights, axis):
    reach = len(weights) // 2
    pad = [(0, 0)] * values.ndim
    pad[axis] = (reach, reach)
    padded = np.pad(values, pad, mode="edge")
    length = values.shape[axis]
    return sum(w * np.take(padded, np.arange(i, i + length), axis) for i, w in enumerate(weights))


def bell(sigma, reach):
    w = np.exp(-np.arange(-reach, reach + 1) ** 2 / (2 * sigma ** 2))
    return w / w.sum()


def gaussian_blur(image, sigma):
    weights = bell(sigma, int(4 * sigma + .5))
    return truncated(blur_axis(blur_axis(image / 255, weights, 0), weights, 1))


def defocus_blur(image, constants):
    radius, alias = constants
    reach = 8 if radius <= 8 else radius
    grid = np.arange(-reach, reach + 1)
    disk = (grid[None] ** 2 + grid[:, None] ** 2 <= radius ** 2).astype(float)
    disk /= disk.sum()
    soft = 1 if radius <= 8 else 2
    weights = bell(alias, soft)
    padded = np.pad(disk, soft, mode="reflect")
    side = len(grid)
    disk = sum(weights[i] * weights[j] * padded[i:i + side, j:j + side]
               for i in range(2 * soft + 1) for j in range(2 * soft + 1))
    values = np.pad(image / 255, [(reach, reach), (reach, reach), (0, 0)], mode="reflect")
    height, width, _ = image.shape
    out = np.zeros(image.shape)
    for i in range(side):
        for j in range(side):
            if disk[i, j]:
                out += disk[i, j] * values[i:i + height, j:j + width]
    return truncated(out)


def through_hsv(image, change):
    rgb = image / 255
    v = rgb.max(-1)
    chroma = v - rgb.min(-1)
    safe = np.where(chroma == 0, 1, chroma)
    s = np.where(v == 0, 0, chroma / np.where(v == 0, 1, v))
    r, g, b = (rgb[..., i] for i in range(3))
    h = np.where(v == b, 4 + (r - g) / safe, np.where(v == g, 2 + (b - r) / safe, (g - b) / safe))
    h = np.where(chroma == 0, 0, h) / 6 % 1
    s, v = change(s, v)
    k = [(n + h * 6) % 6 for n in (5, 3, 1)]  # the closed form of the conversion back to RGB
    return truncated(np.stack([v - v * s * np.clip(np.minimum(x, 4 - x), 0, 1) for x in k], -1))


def brightness(image, c):
    return through_hsv(image, lambda s, v: (s, np.clip(v + c, 0, 1)))


def saturate(image, c):
    return through_hsv(image, lambda s, v: (np.clip(s * c[0] + c[1], 0, 1), v))


def contrast(image, c):
    values = image / 255
    means = values.mean((0, 1), keepdims=True)
    return truncated((values - means) * c + means)


def pixelate(image, c):
    height, width, _ = image.shape
    small = Image.fromarray(image).resize((int(width * c), int(height * c)), Image.BOX)
    return np.asarray(small.resize((width, height), Image.BOX))


def jpeg(image, quality):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


DETERMINISTIC = {"gaussian_blur": (gaussian_blur, BLUR), "defocus_blur": (defocus_blur, DISK),
                 "brightness": (brightness, BRIGHT), "contrast": (contrast, CONTRAST), "saturate": (saturate, SATURATE),
                 "pixelate": (pixelate, PIXELS), "jpeg_compression": (jpeg, QUALITY)}

NOISE = {
    "gaussian_noise": lambda x, c, draw: x + draw.normal(size=x.shape, scale=c),
    "shot_noise": lambda x, c, draw: draw.poisson(x * c) / c,
    "impulse_noise": lambda x, c, draw: np.where(draw.uniform(size=x.shape) < c, draw.uniform(size=x.shape) < .5, x),
    "speckle_noise": lambda x, c, draw: x + x * draw.normal(size=x.shape, scale=c),
}
NOISE_CONSTANTS = {"gaussian_noise": SIGMA, "shot_noise": PHOTONS, "impulse_noise": IMPULSES, "speckle_noise": SPECKLE}


class Corruptions(unittest.TestCase):
    def test_deterministic(self):
        sets = {"cifar": photographs(40, 32, 1), "imagenet": photographs(2, 224, 2)}
        for family, images in sets.items():
            for name, (reference, constants) in DETERMINISTIC.items():
                for severity in range(1, 6):
                    with self.subTest(family=family, name=name, severity=severity):
                        got = run(family, name, severity, images).astype(int)
                        want = np.stack([reference(i, constants[family][severity - 1]) for i in images]).astype(int)
                        close = (abs(got - want) <= 1).mean()
                        self.assertGreaterEqual(close, .99)
                        self.assertGreater(abs(want - images).mean(), .004)  # and it changes the images

    def test_noise(self):
        images = photographs(1000, 32, 3)
        clean = images / 255
        draw = np.random.RandomState(4)
        for family, severities in (("cifar", range(1, 6)), ("imagenet", (1, 5))):
            for name, reference in NOISE.items():
                for severity in severities:
                    with self.subTest(family=family, name=name, severity=severity):
                        got = run(family, name, severity, images, seed=7)
                        want = truncated(reference(clean, NOISE_CONSTANTS[name][family][severity - 1], draw))
                        a, b = got - images.astype(float), want - images.astype(float)
                        root = a.size ** .5
                        self.assertLess(abs(a.mean() - b.mean()), 7 * b.std() / root)
                        spread = (b ** 2).std() / root  # of the mean square
                        self.assertLess(abs((a ** 2).mean() - (b ** 2).mean()), 7 * spread)
                        for end in (0, 255):
                            p, q = (got == end).mean(), (want == end).mean()
                            self.assertLess(abs(p - q), 7 * (q * (1 - q)) ** .5 / root + 1e-6)
                        # whiteness: neighbours' noise is uncorrelated, given that the two means are known
                        c = a - a.mean()
                        d = b - b.mean()
                        pair = (c[:, :, 1:] * c[:, :, :-1]).mean() - (d[:, :, 1:] * d[:, :, :-1]).mean()
                        self.assertLess(abs(pair), 10 * b.var() / root)

    def test_draws_belong_to_the_sample(self):
        images = photographs(6, 16, 5)
        for name in NOISE:
            every = run("cifar", name, 3, images, seed=9)
            tail = run("cifar", name, 3, images[2:], seed=9, first=2)
            self.assertTrue((every[2:] == tail).all())
            self.assertFalse((run("cifar", name, 3, images, seed=10) == every).all())
            twice = run("cifar", name, 3, np.stack([images[0]] * 2), seed=9)
            self.assertFalse((twice[0] == twice[1]).all())

    def test_odd_sizes(self):
        """One pixel, one row, one column: nothing is read or written beyond the image."""
        for shape in ((1, 1, 1, 3), (1, 1, 9, 3), (2, 7, 1, 3), (1, 5, 3, 3)):
            images = np.random.RandomState(6).randint(0, 256, shape).astype(np.uint8)
            for family in ("cifar", "imagenet"):
                for name in list(NOISE) + list(DETERMINISTIC):
                    self.assertEqual(run(family, name, 5, images).shape, shape)

    def test_refused(self):
        for spec in ("fog:1", "contrast", "contrast:0", "contrast:6", "contrast:10", ":1", "contrast:"):
            done = subprocess.run([PROGRAM, "cifar", spec, "1", "1", "1"], stderr=subprocess.PIPE, text=True,
                                  stdin=subprocess.DEVNULL, timeout=60)
            self.assertEqual(done.returncode, 2, spec)
            self.assertIn("gaussian_noise", done.stderr)


if __name__ == "__main__":
    unittest.main()
