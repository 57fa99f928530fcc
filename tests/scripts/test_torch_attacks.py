"""Compares csc-eval's adaptive lambda and attacks with PyTorch on the same weights (scripts/csc_torch.py).

usage: test_torch_attacks.py BUILD_DIR [--run RUN --images FILE --data DIR --limit N --steps N --queries N] [unittest arguments]

PGD is written again here; APGD and Square are those of torchattacks if it is installed. FILE is in CIFAR-10's binary format, DIR the
dataset of it; without them a small network is trained on images made here. Exit code 77 where PyTorch is missing.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

try:
    import numpy
    import torch
    import torch.nn.functional as F
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts")]
import csc_torch  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("build")
parser.add_argument("--run")
parser.add_argument("--images")
parser.add_argument("--data")
parser.add_argument("--limit", type=int, default=100)
parser.add_argument("--steps", type=int, default=10, help="of PGD and APGD")
parser.add_argument("--queries", type=int, default=100, help="of Square")
parser.add_argument("--square-batch", type=int, default=10, help="images that share torchattacks' squares")
OPTIONS, REST = parser.parse_known_args()
TRAIN = os.path.join(OPTIONS.build, "trainer", "csc-train")
EVAL = os.path.join(OPTIONS.build, "trainer", "csc-eval")
PACK = os.path.join(OPTIONS.build, "trainer", "csc-pack")
EPS = [0.5, 1, 2]  # 255ths
SLACK = 5.01  # so many images may differ because of random draws


def make_images(path, count, seed):
    """Writes images with a pattern for each label, and noise that makes some of them difficult."""
    random = numpy.random.default_rng(seed)
    patterns = numpy.random.default_rng(1).normal(size=(10, 3, 8, 8)).repeat(4, axis=2).repeat(4, axis=3)
    labels = random.integers(0, 10, count)
    pixels = 128 + 25 * patterns[labels] * random.uniform(0.05, 1, (count, 1, 1, 1)) + 30 * random.normal(size=(count, 3, 32, 32))
    numpy.concatenate([labels.reshape(-1, 1), pixels.clip(0, 255).reshape(count, -1)], axis=1).astype(numpy.uint8).tofile(path)


def command(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise AssertionError(f"exit code {done.returncode}: {words}\n{done.stdout}{done.stderr}")
    return done.stdout


def pgd(net, pixels, labels, eps, steps, step):
    """PGD of Madry et al.: a uniform start, signs of the cross-entropy's gradient, the last iterate."""
    x = (pixels + (torch.rand_like(pixels) * 2 - 1) * eps).clamp(0, 1)
    for _ in range(steps):
        x.requires_grad_(True)
        gradient, = torch.autograd.grad(F.cross_entropy(net(x), labels, reduction="sum"), x)
        x = x.detach() + step * gradient.sign()
        x = torch.min(torch.max(x, pixels - eps), pixels + eps).clamp(0, 1)
    return x.detach()


class Attacks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="csc-attacks-")
        os.mkdir(cls.path("bin"))
        if OPTIONS.run:
            cls.run_folder, cls.data, images = cls.path("run"), OPTIONS.data, OPTIONS.images
            checkpoint = csc_torch.find_checkpoint(OPTIONS.run)
            shutil.copytree(checkpoint, os.path.join(cls.run_folder, "checkpoints", os.path.basename(checkpoint)))
        else:
            images = cls.path("bin", "test_batch.bin")
            make_images(images, OPTIONS.limit, 2)
            make_images(cls.path("bin", "data_batch_1.bin"), 320, 3)
            command(PACK, "cifar10", cls.path("bin"), cls.path("data"))
            cls.data = cls.path("data", "val")
            cls.train()
        cls.pixels, cls.labels = csc_torch.read_cifar(images, OPTIONS.limit)
        cls.checkpoint = csc_torch.find_checkpoint(cls.run_folder)
        cls.net = csc_torch.load(cls.checkpoint)

    @classmethod
    def train(cls):
        cls.run_folder = cls.path("run")
        with open(cls.path("run.yaml"), "w") as file:
            file.write(f"run: {{dir: {cls.run_folder}}}\nmodel: {{width: 4, arch: sdnet18, stem: cifar}}\n"
                       f"data: {{train: {cls.path('data', 'train')}, augment: none, workers: 1}}\n"
                       "train: {steps: 60, batch: 32, lr: 0.1, nesterov: true}\ndevice: {threads: 1}\n")
        command(TRAIN, cls.path("run.yaml"))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def path(cls, *names):
        return os.path.join(cls.folder, *names)

    def evaluate(self, *options):
        command(EVAL, self.run_folder, "--data", self.data, "--limit", OPTIONS.limit, "--threads", 1, "--json", self.path("json"),
                *options)
        with open(self.path("json")) as file:
            return json.load(file)

    def accuracy(self, pixels):
        with torch.no_grad():
            hits = sum(int((self.net(x).argmax(1) == y).sum()) for x, y in zip(pixels.split(100), self.labels.split(100)))
        return hits / len(pixels)

    def compare(self, name, spec, attack, most, batch=100):
        """Compares csc-eval's accuracy under `spec` with that under attack(pixels, labels, eps), at each eps."""
        specs = [word for eps in EPS for word in ("--attack", spec.format(eps=f"{eps}/255", step=f"{eps / 4}/255"))]
        got = self.evaluate(*specs, "--no-checks")
        self.assertAlmostEqual(got["top1"], self.accuracy(self.pixels), delta=1.01 / len(self.pixels))
        for eps, ours in zip(EPS, got["attacks"]):
            pairs = zip(self.pixels.split(batch), self.labels.split(batch))
            theirs = self.accuracy(torch.cat([attack(x, y, eps / 255) for x, y in pairs]))
            print(f"{name}, eps {eps}/255, {len(self.pixels)} images: csc-eval {100 * ours['top1']:.2f}%, "
                  f"PyTorch {100 * theirs:.2f}% (clean {100 * got['top1']:.2f}%)", flush=True)
            self.assertAlmostEqual(ours["top1"], theirs, delta=max(most, SLACK / len(self.pixels)))
        self.assertLess(got["attacks"][2]["top1"], got["top1"])  # the attack has an effect

    def test_pgd(self):
        torch.manual_seed(1)
        steps = OPTIONS.steps
        self.compare(f"PGD-{steps}", f"pgd:eps={{eps}},step={{step}},steps={steps}",
                     lambda x, y, eps: pgd(self.net, x, y, eps, steps, eps / 4), 0.01)

    def compare_public(self, name, spec, make, batch=100):
        """Compares with torchattacks; make(torchattacks, eps) returns its attack."""
        try:
            import torchattacks
        except ImportError as error:
            self.skipTest(str(error))
        self.compare(name, spec, lambda x, y, eps: make(torchattacks, eps)(x, y), 0.02, batch)

    def test_apgd_ce(self):
        steps = OPTIONS.steps
        self.compare_public(f"APGD-CE, {steps} steps", f"apgd-ce:eps={{eps}},steps={steps}",
                            lambda public, eps: public.APGD(self.net, eps=eps, steps=steps, loss="ce"))

    def test_apgd_t(self):
        steps = OPTIONS.steps
        self.compare_public(f"APGD-T, {steps} steps", f"apgd-t:eps={{eps}},steps={steps}",
                            lambda public, eps: public.APGDT(self.net, eps=eps, steps=steps, n_classes=10))

    def test_square(self):
        """Uses small batches, because torchattacks draws the same squares for all images of a batch."""
        queries = OPTIONS.queries
        self.compare_public(f"Square, {queries} queries", f"square:eps={{eps}},queries={queries}",
                            lambda public, eps: public.Square(self.net, eps=eps, n_queries=queries),
                            OPTIONS.square_batch)

    def test_adaptive_logits(self):
        """Computes lambda(x) again in PyTorch: the residual at the training lambda, a line, a clamp, a threshold per image."""
        layer = self.net.layer0[0]
        trained, own_steps = layer.lam, layer.steps
        x = self.net.normalized(self.pixels)
        layer.steps = 20
        with torch.no_grad():
            residual = layer.residual(x, layer(x)).square().mean(dim=(1, 2, 3)).sqrt()
        layer.steps = own_steps
        low, high = float(residual.min()), float(residual.max())
        slope = 1.5 / (high - low)
        line = {"intercept": 0.05 - slope * low, "slope": slope, "low": 0.2, "high": 1.2, "training_lambda": trained, "steps": 20}
        weights = self.weights_hash()
        with open(self.checkpoint.rstrip("/") + ".lambda.json", "w") as file:
            json.dump(dict(line, version=2, weights=weights, data="", images=1, points=[]), file)
        self.evaluate("--lambda", "adaptive", "--logits", self.path("logits"))
        got = csc_torch.read_safetensors(self.path("logits"))["logits"]
        layer.lam = (line["intercept"] + slope * residual).clamp(0.2, 1.2)
        with torch.no_grad():
            want = self.net(self.pixels)
        layer.lam = trained
        self.assertGreater(float((want - self.net(self.pixels)).abs().max()), 0.01)  # lambda has an effect
        error = float((got - want).abs().max())
        print(f"adaptive lambda: logits differ by {error:.1e} at most, of {float(want.abs().max()):.2f}")
        self.assertLess(error, 3e-4 * max(1, float(want.abs().max())))

    def weights_hash(self):
        """The hash of the weights, from a rule that csc-eval has written."""
        command(EVAL, self.run_folder, "--data", self.data, "--limit", 2, "--threads", 1, "--fit-lambda")
        with open(self.checkpoint.rstrip("/") + ".lambda.json") as file:
            return json.load(file)["weights"]


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + REST)
