"""Compares scripts/csc_torch.py with the programs: logits of the same checkpoint, weights in both directions, ONNX.

usage: test_csc_torch.py BUILD_DIR [--all] [--exact] [--images FILE --limit N --width W --steps N] [unittest arguments]

FILE is in CIFAR-10's binary format, for images other than the ones made here. Exit code 77 where PyTorch is missing.
"""
import argparse
import copy
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
    from torch import nn
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts")]
import csc_torch  # noqa: E402
import published_torch  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("build")
parser.add_argument("--all", action="store_true", help="every network")
parser.add_argument("--exact", action="store_true", help="compare with double precision too")
parser.add_argument("--images")
parser.add_argument("--limit", type=int, default=24)
parser.add_argument("--width", type=int, default=4)
parser.add_argument("--steps", type=int, help="train for so many steps instead of setting up live weights")
parser.add_argument("--tolerance", type=float, default=1e-4)
OPTIONS, REST = parser.parse_known_args()
TRAIN = os.path.join(OPTIONS.build, "trainer", "csc-train")
EVAL = os.path.join(OPTIONS.build, "trainer", "csc-eval")
PACK = os.path.join(OPTIONS.build, "trainer", "csc-pack")
SCRIPT = csc_torch.__file__

CASES = [
    ["model.arch=sdnet18-all", "model.shortcut=false", "model.classes=13", "csc.steps=4", "csc.mu=0.2", "csc.nonnegative=false"],
    ["model.arch=resnet50", "model.layers=[layer1.0.conv1, layer2.1.conv2]", "csc.steps=3", "csc.lambda=0.05"],
    ["model.arch=sdnet18", "csc.step_size=0.2", "train.ema=0.9", "csc.steps=1"],
    ["model.arch=sdnet18-all", "model.stem=imagenet", "data.augment=none", "model.width=8"],
] + [[f"model.arch={arch}"] for arch in csc_torch.ARCHS if OPTIONS.all] + [
    [f"model.arch={arch}", "model.stem=imagenet", "data.augment=none"] for arch in csc_torch.ARCHS if OPTIONS.all]


def make_images(path, count):
    """Writes images of smooth noise with a tint for each label."""
    random = numpy.random.default_rng(3)
    labels = numpy.arange(count) % 10
    base = torch.from_numpy(random.random((count, 3, 6, 6)))
    pixels = F.interpolate(base, size=(32, 32), mode="bilinear", align_corners=False).numpy() + labels.reshape(-1, 1, 1, 1) / 40
    records = numpy.concatenate([labels.reshape(-1, 1), (pixels * 200).clip(0, 255).reshape(count, -1)], axis=1)
    records.astype(numpy.uint8).tofile(path)


class Torch(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="csc-torch-")
        cls.images = cls.path("bin", "test_batch.bin")
        os.mkdir(cls.path("bin"))
        if OPTIONS.images:
            shutil.copy(OPTIONS.images, cls.images)
        else:
            make_images(cls.images, OPTIONS.limit)
        shutil.copy(cls.images, cls.path("bin", "data_batch_1.bin"))
        cls.command(PACK, "cifar10", cls.path("bin"), cls.path("data"))
        cls.pixels, cls.labels = csc_torch.read_cifar(cls.images, OPTIONS.limit)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def path(cls, *names):
        return os.path.join(cls.folder, *names)

    @classmethod
    def command(cls, *words, code=0):
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=600)
        if done.returncode != code:
            raise AssertionError(f"exit code {done.returncode}: {words}\n{done.stdout}{done.stderr}")
        return done

    def train(self, name, *settings, steps=3):
        """Trains a few steps; returns the run's directory."""
        with open(self.path(name + ".yaml"), "w") as file:
            file.write(f"run: {{dir: {self.path(name)}}}\nmodel: {{width: {OPTIONS.width}, arch: resnet18, stem: cifar}}\n"
                       f"data: {{train: {self.path('data', 'train')}, workers: 1}}\ntrain: {{steps: {steps}, batch: 24, lr: 0.05}}\n"
                       "device: {threads: 1}\n")
        shutil.rmtree(self.path(name), ignore_errors=True)
        self.command(TRAIN, self.path(name + ".yaml"), *settings)
        return self.path(name)

    def awake(self, name, *settings):
        """Trains from weights whose batch norms fit the images; otherwise deep networks give all images the same logits."""
        if OPTIONS.steps:
            return self.train(name, *settings, steps=OPTIONS.steps)
        net = csc_torch.load(self.train(name, *settings, steps=1))
        torch.manual_seed(1)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the statistics of this batch, not a moving mean
                module.reset_running_stats()
                nn.init.uniform_(module.weight, 0.7, 1.3)
                nn.init.normal_(module.bias, std=0.2)
        with torch.no_grad():
            net.train()(self.pixels[:64])
        csc_torch.save_weights(net, self.path("awake.safetensors"))
        return self.train(name, *settings, f"model.init_from={self.path('awake.safetensors')}", "train.lr=1e-4")

    def evaluate(self, run, *options):
        """Returns csc-eval's logits in data order."""
        self.command(EVAL, run, "--data", self.path("data", "val"), "--logits", self.path("logits"), "--limit", OPTIONS.limit,
                     *options)
        return csc_torch.read_safetensors(self.path("logits"))

    def assert_same(self, got, want, what, round_off=0):
        """Compares logits. Rounding errors grow with the activations, so for logits above 1 the tolerance is relative to the
        largest. They grow with depth too, so the tolerance is at least 8 times the known rounding error `round_off`."""
        error, largest = float((got - want).abs().max()), float(want.abs().max())
        self.assertGreater(float(want.std(dim=0).max()), 10 * OPTIONS.tolerance, f"{what}: all images look the same to it")
        print(f"{what}: {len(got)} images, logits differ by {error:.1e} at most, of {largest:.2f}")
        self.assertLess(error, max(OPTIONS.tolerance * max(1, largest), 8 * round_off), what)


    def test_same_logits(self):
        for case in CASES:
            with self.subTest(case):
                run = self.awake("run", *case)
                want = self.evaluate(run)
                net = csc_torch.load(run)
                self.assertEqual(want["labels"].tolist(), self.labels.tolist())
                logits = csc_torch.all_logits(net, self.pixels)
                exact = csc_torch.all_logits(copy.deepcopy(net).double(), self.pixels.double())
                self.assert_same(logits, want["logits"], " ".join(case), float((logits - exact).abs().max()))
                if OPTIONS.exact:
                    self.assert_same(logits, exact, " ".join(case) + ", PyTorch in fp32 and in double precision")
                    self.assert_same(want["logits"], exact, " ".join(case) + ", csc-eval and PyTorch in double precision")

    def test_stored_step_sizes(self):
        run = self.train("etas", "model.arch=sdnet18-all")
        checkpoint = csc_torch.find_checkpoint(run)
        stored = csc_torch.read_safetensors(os.path.join(checkpoint, "optimizer.safetensors"))
        net, converged = csc_torch.load(run, converge=False), csc_torch.load(run)
        with torch.no_grad():
            net(self.pixels[:2]), converged(self.pixels[:2])
        for (name, layer), other in zip(net.csc_layers().items(), converged.csc_layers().values()):
            self.assertEqual(list(layer.eta_at.values()), [float(stored["eta." + name])])
            self.assertAlmostEqual(list(other.eta_at.values())[0] / float(stored["eta." + name]), 1, delta=0.1)
        os.remove(os.path.join(checkpoint, "optimizer.safetensors"))  # the same state in parts, as several ranks write it
        for i in (0, 1):
            part = {name: tensor for name, tensor in stored.items() if name.startswith("eta.") == (i == 1)}
            csc_torch.write_safetensors(os.path.join(checkpoint, f"optimizer-0000{i + 1}-of-00002.safetensors"), part)
        again = csc_torch.load(run, converge=False)
        with torch.no_grad():
            again(self.pixels[:2])
        self.assertEqual([l.eta_at for l in again.csc_layers().values()], [l.eta_at for l in net.csc_layers().values()])

    def test_gradient_reaches_the_pixels(self):
        """Compares with one-sided differences in double precision."""
        net = csc_torch.load(self.awake("grad", "model.arch=sdnet18")).double()
        x = self.pixels[:1].double().requires_grad_()
        direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        loss = lambda pixels: F.cross_entropy(net(pixels), self.labels[:1])
        loss(x).backward()
        slope = float((x.grad * direction).sum())
        with torch.no_grad():  # a threshold may lie within some of the six steps, but not within all
            here = float(loss(x))
            steps = [sign * h for h in (1e-6, 1e-7, 1e-8) for sign in (1, -1)]
            differences = [(float(loss(x + step * direction)) - here) / step for step in steps]
        nearest = min(differences, key=lambda difference: abs(difference - slope))
        self.assertAlmostEqual(slope, nearest, delta=1e-4 * abs(nearest) + 1e-9)

    def test_lambda_per_image(self):
        net = csc_torch.load(self.awake("lam", "model.arch=sdnet18"))
        layer = net.csc_layers()["layer0.0"]
        layer.lam = torch.tensor([0.1, 0.4])
        with torch.no_grad():
            both = net(self.pixels[:2])
            for i, lam in enumerate((0.1, 0.4)):
                layer.lam = lam
                self.assertLess(float((net(self.pixels[:2])[i] - both[i]).abs().max()), 1e-5)

    def test_what_csc_train_is_timed_against(self):
        """published_torch's layers give the same codes as csc_torch; its networks have the published parameter counts."""
        torch.manual_seed(1)
        for channels, atoms, kernel, stride, side in ((5, 9, 3, 1, 8), (4, 6, 3, 2, 9), (3, 8, 7, 2, 16)):
            layer, x = published_torch.Sparse(channels, atoms, kernel, stride), torch.randn(2, channels, side, side)
            layer(x)
            before = layer.eta
            for _ in range(4):
                layer.update_stepsize()
            own = csc_torch.CSC(channels, atoms, kernel, stride,
                                {"steps": 2, "lambda": 0.1, "mu": 0, "nonnegative": True, "step_size": None})
            with torch.no_grad():
                own.dn.weight.copy_(layer.weight)
            own.normalize_atoms()
            self.assertNotEqual(layer.eta, before)
            self.assertAlmostEqual(layer.eta, own.eta((side, side)), delta=0.01 * layer.eta)
            own.step_size = layer.eta
            codes = own(x)
            self.assertLess(float((layer(x) - codes).detach().abs().max()), 1e-6 * float(codes.abs().max()))
        for name, size, parameters in (("resnet18", 32, 11173962), ("sdnet18", 32, 11173962), ("resnet18", 224, 11689512),
                                       ("sdnet18", 224, 11689512), ("sdnet18-all", 224, 11726376)):
            net = published_torch.Net(name, size)
            self.assertEqual(sum(p.numel() for p in net.parameters()), parameters, f"{name}, {size}")

    def round_trip(self, weights, arch, config=()):
        """Converts weights, starts a run from them with a learning rate of almost 0, and compares with PyTorch."""
        out = self.path("converted.safetensors")
        done = self.command(sys.executable, SCRIPT, "convert", weights, out)
        settings = [word for word in done.stdout.split() if word.startswith("model.")]
        self.assertIn(f"model.arch={arch}", settings)
        run = self.train("from", *settings, *config, "train.lr=1e-30", "train.weight_decay=0", steps=1)
        return csc_torch.load(run), self.evaluate(run)["logits"]

    def test_published_checkpoint_converts(self):
        """Weights as the published code saves them: under state_dict, with DataParallel's prefix."""
        source = csc_torch.Net(arch="sdnet18-all", width=OPTIONS.width)
        source.train()(self.pixels)  # gives it running statistics
        state = {f"module.{name}": tensor for name, tensor in source.state_dict().items()}
        torch.save({"epoch": 3, "state_dict": state}, self.path("best.pth.tar"))
        _, logits = self.round_trip(self.path("best.pth.tar"), "sdnet18-all")
        self.assertEqual(len(logits), len(self.pixels))

    def test_torchvision_converts(self):
        try:
            import torchvision
        except (ImportError, RuntimeError) as error:
            self.skipTest(f"torchvision: {error}")
        for name in ("resnet18", "resnet50"):
            theirs = getattr(torchvision.models, name)(weights=None, num_classes=10)
            theirs.train()(self.pixels[:16])
            theirs.eval()
            torch.save(theirs.state_dict(), self.path("tv.pth"))
            net, logits = self.round_trip(self.path("tv.pth"), name, ["data.augment=none", "data.image_size=32"])
            self.assert_same(csc_torch.all_logits(net, self.pixels), logits, f"torchvision's {name}, by csc_torch")
            ours = csc_torch.convert(self.path("tv.pth"))
            with torch.no_grad():
                x = self.pixels[:16]
                self.assert_same(ours(x), theirs(ours.normalized(x)), f"torchvision's {name} itself and converted")

    def test_onnx_runs_elsewhere(self):
        try:
            import onnxruntime
        except ImportError as error:
            self.skipTest(str(error))
        for arch in ("sdnet18", "sdnet18-all"):
            run = self.awake("onnx", f"model.arch={arch}")
            self.command(sys.executable, SCRIPT, "onnx", run, self.path("net.onnx"))
            session = onnxruntime.InferenceSession(self.path("net.onnx"), providers=["CPUExecutionProvider"])
            got = session.run(None, {"pixels": self.pixels.numpy()})[0]
            self.assert_same(torch.from_numpy(got), self.evaluate(run)["logits"], f"ONNX Runtime, {arch}")

    def test_command_line(self):
        run = self.awake("cli", "model.arch=sdnet18")
        self.command(sys.executable, SCRIPT, "logits", run, self.images, self.path("cli.safetensors"), "--limit", OPTIONS.limit)
        got, want = csc_torch.read_safetensors(self.path("cli.safetensors")), self.evaluate(run)
        self.assert_same(got["logits"], want["logits"], "csc_torch.py logits")
        self.assertEqual(got["labels"].tolist(), want["labels"].tolist())
        with open(self.path("not.pth"), "wb") as file:
            file.write(b"no weights here")
        for words, part in ((["convert", self.path("not.pth"), self.path("x")], "not.pth"),
                            (["onnx", self.path("bin"), self.path("x")], "neither a checkpoint"),
                            (["convert", self.path("logits"), self.path("x")], "logits")):
            self.assertIn(part, self.command(sys.executable, SCRIPT, *words, code=65).stderr)
        self.command(sys.executable, SCRIPT, "--nonsense", code=2)

    def test_trust_is_advised_where_it_helps(self):
        torch.save({"w": torch.zeros(100), "options": argparse.Namespace(lr=1)}, self.path("code.pth"))
        with open(self.path("code.pth"), "rb") as whole, open(self.path("cut.pth"), "wb") as cut:
            cut.write(whole.read()[:300])
        with open(self.path("empty.pth"), "wb"):
            pass
        for name, code, advised in (("code.pth", 65, True), ("cut.pth", 65, False), ("empty.pth", 65, False),
                                    ("absent.pth", 74, False)):
            done = self.command(sys.executable, SCRIPT, "convert", self.path(name), self.path("x"), code=code)
            self.assertEqual("--trust" in done.stderr, advised, done.stderr)
            self.assertIn(name, done.stderr)


if __name__ == "__main__":
    torch.set_num_threads(1)
    unittest.main(argv=sys.argv[:1] + REST, verbosity=1)
