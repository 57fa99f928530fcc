"""csc-viz: checks that the report needs no other file, that the pictures are beside it, and that the results are plausible."""
import base64
import json
import os
import shutil
import struct
import subprocess
import zlib
from html.parser import HTMLParser

import runs
from runs import CONFIG, RunTest

VIZ = os.path.join(runs.BUILD, "trainer", "csc-viz")


class Report(HTMLParser):
    """Collects what a browser would show or load, and checks that elements close in order."""

    VOID = {"meta", "link", "br", "img", "line", "polyline", "circle"}

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.fetched, self.points, self.words = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(attributes)
        if tag == "polyline":
            self.points.append([tuple(map(float, p.split(","))) for p in attributes["points"].split()])
        self.fetched += [attributes[name] for name in ("src", "href") if name in attributes]

    def handle_startendtag(self, tag, attributes):
        if tag in self.VOID:
            self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag):
        assert tag not in self.VOID and self.open.pop() == tag, tag

    def handle_data(self, text):
        self.words.append(text)


def png_size(data):
    """Checks signature, chunk checksums and the length of the pixels; returns width and height."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, pixels = 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack(">I", data[at + 8 + length:at + 12 + length])[0]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
            assert (depth, colour) == (8, 2)
        pixels += body if kind == b"IDAT" else b""
        at += 12 + length
    assert kind == b"IEND" and len(zlib.decompress(pixels)) == height * (1 + 3 * width)
    return width, height


class Viz(RunTest):
    def viz(self, *arguments, code=0):
        done = subprocess.run([VIZ, *map(str, arguments)], capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def show(self, run, *options):
        """Runs csc-viz on a run; returns its JSON and its parsed report."""
        out = self.path("out")
        shutil.rmtree(out, ignore_errors=True)
        done = self.viz(self.path(run), "--data", os.path.join(self.data, "val"), "--out", out, "--limit", 16, "--images", 4, "--threads", 1,
                        "--json", "-", *options)
        numbers = json.loads(done.stdout)
        with open(os.path.join(out, "report.html"), encoding="utf-8") as file:
            report = Report(file.read())
        self.assertEqual(report.open, [])
        self.assertEqual(set(os.listdir(out)), {"report.html", *numbers["pictures"]})
        embedded = []
        for image in report.images:
            head, data = image["src"].split(",", 1)
            self.assertEqual(head, "data:image/png;base64")
            embedded.append(base64.b64decode(data, validate=True))
            self.assertEqual((int(image["width"]), int(image["height"])), png_size(embedded[-1]))
            self.assertTrue(image["alt"])
        beside = []
        for name in numbers["pictures"]:
            with open(os.path.join(out, name), "rb") as file:
                beside.append(file.read())
        self.assertEqual(sorted(embedded), sorted(beside))
        self.assertTrue(all(address.startswith("data:") for address in report.fetched), "nothing is fetched")
        return numbers, report

    def test_report(self):
        self.train(self.config("run", CONFIG.replace("sdnet18", "sdnet18-all")), "model.width=8", "eval.every_epochs=1")
        numbers, report = self.show("run", "--truth", os.path.join(self.data, "truth.safetensors"))
        self.assertEqual([l["name"] for l in numbers["layers"]][:2], ["layer0.0", "layer1.layers.0.conv1"])
        self.assertEqual(len(numbers["layers"]), 17)
        self.assertEqual([r["layer"] for r in numbers["reconstructions"]],
                         ["layer0.0"] + [f"layer{s}.layers.1.conv2" for s in (1, 2, 3, 4)])
        for layer in numbers["layers"]:
            self.assertTrue(0 <= layer["nonzeros"] <= 1 and layer["gap"] > -1e-3 and 0 < layer["eta"] < 1, layer)
        self.assertEqual(sum(name.startswith("atoms-") for name in numbers["pictures"]), 17)
        self.assertEqual(numbers["true_atoms"]["atoms"], 24)
        self.assertTrue(0 < numbers["true_atoms"]["mean_cosine"] <= numbers["true_atoms"]["best_cosine"] < 1)
        lines = len(self.metrics("run", "step"))
        self.assertEqual(len(report.points), 5)  # loss twice, accuracy, rate, speed
        self.assertEqual(len(report.points[0] if len(report.points[0]) > 5 else report.points[1]), lines)
        self.assertTrue(all(0 <= x <= 380 and 0 <= y <= 240 for points in report.points for x, y in points))
        self.assertIn("2 FISTA steps", "".join(report.words))

    def test_many_steps_restore(self):
        """With a rich dictionary, a small lambda and many steps, A z equals the image; with two steps it does not."""
        self.train(self.config("wide"), "model.width=48", "train.steps=1", "data.val=none")
        few, _ = self.show("wide")
        many, _ = self.show("wide", "--steps", 300, "--lambda", "1e-4")
        self.assertEqual((few["fista_steps"], many["fista_steps"]), (2, 300))
        self.assertLess(few["reconstructions"][0]["psnr"], 30)
        self.assertGreater(many["reconstructions"][0]["psnr"], 40)
        self.assertLess(many["layers"][0]["residual"], 1e-3)
        self.assertLess(many["layers"][0]["gap"], 0.05 * few["layers"][0]["gap"])
        for level in many["denoising"]:  # an exact code keeps the noise
            self.assertAlmostEqual(level["psnr"], level["input_psnr"], delta=0.2)
        self.assertGreater(few["denoising"][0]["input_psnr"], few["denoising"][3]["input_psnr"] + 15)
        self.assertAlmostEqual(few["denoising"][0]["input_psnr"], 34, delta=0.5)  # 20 log10(1 / 0.02), a little clipped

    def test_layers_asked_for(self):
        self.train(self.config("plain"), "model.arch=resnet18", "train.steps=2")
        numbers, _ = self.show("plain", "--layer", "layer1.0.conv2", "--layer", "layer2.0.conv1", "--noise", "0")
        self.assertEqual([r["layer"] for r in numbers["reconstructions"]], ["layer1.0.conv2", "layer2.0.conv1"])
        self.assertEqual((numbers["layers"], sum(n.startswith("atoms-") for n in numbers["pictures"])), ([], 1))

    def test_bad_input(self):
        self.train(self.config("bad"), "train.steps=1")
        good = [self.path("bad"), "--data", os.path.join(self.data, "val"), "--out", self.path("out")]
        with open(self.path("no-truth"), "wb") as file:
            file.write(b"\0" * 40)
        for words, code, part in (([], 2, "one checkpoint"), (good[:3], 2, "--out"), (good + ["--images", "0"], 2, "--images"),
                                  (good + ["--layer", "layer9"], 2, "layer9"), (good + ["--noise", "loud"], 2, "--noise"),
                                  (good + ["--steps", "0"], 2, "csc.steps"), (good + ["--what"], 2, "--what"),
                                  ([self.path("none")] + good[1:], 74, "none"), (good + ["--truth", self.path("no-truth")], 65, "no-truth"),
                                  (good[:2] + [self.path("none")] + good[3:], 74, "none")):
            done = self.viz(*words, code=code)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            self.assertIn(part, done.stderr)


if __name__ == "__main__":
    runs.main()
