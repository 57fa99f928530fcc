"""gpu-check without a GPU: says so; with stand-ins for its programs, reports every part's outcome and what is wanted;
small on the CPU and on the emulated GPU, runs the parts themselves; killed, leaves an archive that can be read.

usage: test_gpu_check.py GPU-CHECK BUILD_DIR [unittest arguments]
"""
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest
import zlib

CHECK, BUILD = os.path.abspath(sys.argv.pop(1)), os.path.abspath(sys.argv.pop(1))
SCRIPTS = os.path.dirname(CHECK)
ROOT = os.path.dirname(SCRIPTS)
PROGRAMS = {"csc-train": "trainer/csc-train", "csc-bench": "trainer/csc-bench", "csc-pack": "trainer/csc-pack",
            "check_ops": "tests/layers/backend/check_ops", "test-csc": "tests/layers/test-csc",
            "test-golden": "tests/layers/test-golden", "test-golden-small": "tests/runs/test-golden-small"}
EMULATED = {"csc-train": "tests/runs/csc-train-emulated", "csc-bench": "tests/runs/csc-bench-emulated",
            "csc-bench-nccl": "tests/runs/csc-bench-emulated",
            "test-golden-small": "tests/runs/test-golden-small-emulated"}
NAMED_EMULATED = ("check_ops", "test-golden")  # whose device is not called cuda there


def png(seed):
    """64x80 pixels"""
    rows = b"".join(b"\0" + bytes((seed * 7 + x * y) % 256 for x in range(3 * 64)) for y in range(80))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 80, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


class GpuCheck(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="csc-gpu-check-")
        self.addCleanup(shutil.rmtree, self.folder)
        for name in ("bin", "path", "golden"):
            os.mkdir(self.path(name))
        for name in os.listdir(SCRIPTS):
            if name.startswith("gpu") or name.endswith("_torch.py"):
                shutil.copy(os.path.join(SCRIPTS, name), self.folder)
        os.symlink(os.path.join(ROOT, "configs"), self.path("configs"))
        self.report = self.path("report")

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def script(self, *names, text):
        with open(self.path(*names), "w", encoding="utf-8") as f:
            f.write("#!/bin/sh\n" + text + "\n")
        os.chmod(self.path(*names), 0o755)

    def gpu(self, name="NVIDIA H200"):
        """What stands for one: nvidia-smi, and a folder with cuDNN's name in it."""
        self.script("path", "nvidia-smi", text=f"echo '{name}, 580.1'")
        open(self.path("libcudnn.so.9"), "w", encoding="utf-8").close()
        return "--lib=" + self.folder

    def command(self, *arguments):
        return [sys.executable, self.path("gpu-check"), "--report=" + self.report, *arguments]

    def environment(self):
        return {**os.environ, "PATH": self.path("path") + ":" + os.environ["PATH"], "TMPDIR": self.folder}

    def check(self, *arguments, code=0):
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, env=self.environment(),
                              timeout=800, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def read(self, name):
        with open(os.path.join(self.report, name), encoding="utf-8") as f:
            return f.read()

    def parts(self):
        return json.loads(self.read("report.json"))["parts"]

    def archived(self):
        """report.json as the archive has it, every member of which is read."""
        with tarfile.open(self.report + ".tar.gz") as tar:
            files = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}
        return json.loads(files["report/report.json"])


class StandIns(GpuCheck):
    """Programs that only say something."""

    def setUp(self):
        super().setUp()
        for name in PROGRAMS:
            self.script("bin", name, text="echo 'all \"well\"'")

    def test_no_gpu(self):
        self.script("path", "nvidia-smi", text="exit 9")
        self.assertIn("there is no GPU", self.check("ops", code=77))
        self.assertEqual(self.archived()["machine"]["GPU"], "none")

    def test_usage(self):
        self.assertIn("there is no part 'nonsense'", self.check("nonsense", code=2))
        self.assertIn("there is no", self.check("--photographs=" + self.path("nowhere.tar"), code=2))
        self.assertIn("Usage: gpu-check", self.check("--help"))

    def test_missing_library(self):
        lib = self.gpu()
        self.script("path", "ldd", text="echo '  libcublasLt.so.13 => not found'")
        self.assertIn("libcublasLt.so.13 is in none", self.check(lib, "ops", code=2))

    def test_outcomes(self):
        lib = self.gpu()
        self.script("bin", "test-golden", text="echo 'layer 3 is wrong'; exit 1")
        self.check(lib, "golden", "ops", "train-sdnet18", code=1)
        parts = self.parts()
        self.assertEqual({name: part["outcome"] for name, part in parts.items()},
                         {"golden": "failed", "ops": "passed", "train-sdnet18": "skipped"})
        self.assertIn("exit code 1: layer 3 is wrong", parts["golden"]["why"])
        self.assertEqual(self.archived()["parts"], parts)
        for line in ("golden: failed", "ops: passed", "sanitizer: not run",
                     "CIFAR-10, sdnet18: not measured (95% wanted)",
                     "224x224, resnet18, of PyTorch's ResNet-18: not measured (1.25 wanted)"):
            self.assertIn(line + "\n", self.read("report.txt"))

    def test_no_reader(self):
        """Standard output that nobody reads any more ends nothing."""
        process = subprocess.Popen(self.command(self.gpu(), "golden", "ops"), env=self.environment(),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()
        self.assertEqual((process.stderr.read(), process.wait()), (b"", 0))
        process.stderr.close()
        self.assertEqual([part["outcome"] for part in self.parts().values()], ["passed", "passed"])

    def test_until(self):
        """What does not fit is cut off, and what comes after it is left out."""
        lib = self.gpu()
        self.script("bin", "check_ops", text="sleep 60")
        self.check(lib, "--until=5", "ops", "golden", code=1)
        self.assertEqual([part["outcome"] for part in self.parts().values()], ["failed", "skipped"])
        self.assertLess(self.parts()["ops"]["seconds"], 20)

    def test_fused(self):
        """Of all plans that were tried those of fused graphs, the fastest first."""
        lib = self.gpu()
        plans = """# Test GPU
cudnn.91900.forward.plain.256x56x56x64.64.3.1.1.bf16=e1:0 0.1000 590.0 sm90_plain
cudnn.91900.adjoint.add.256x56x56x64.64.3.1.1.bf16=e0:1 0.3000 197.3 cutlass_sm80
cudnn.91900.adjoint.add.256x56x56x64.64.3.1.1.bf16=e2:24.13 0.1500 394.6 sm90_wgmma
cudnn.91900.forward.shrink.256x56x56x64.64.3.1.1.bf16=e0:1 0.2000 295.9 cutlass_sm80
"""
        self.script("bin", "csc-bench",
                    text="while [ $# -gt 1 ]; do case $1 in --json) echo '{}' >\"$2\" ;; --candidates) "
                         "cat >>\"$2\" <<'E'\n"
                                             f"{plans}E\n;; esac; shift; done")
        self.check(lib, "fused")
        figures = self.parts()["fused"]["figures"]
        self.assertEqual([figures[name]["value"] for name in ("fused graphs", "whose fastest plan is no sm80 kernel")],
                         [2, 1])
        best = figures["cudnn.91900.adjoint.add.256x56x56x64.64.3.1.1.bf16"]
        self.assertEqual((best["value"], best["tried"], best["choice"]), (394.6, 2, "e2:24.13"))
        self.assertIn("0.56 of 700 TFLOP/s  e2:24.13  sm90_wgmma", self.read("fused.txt"))

    def test_torch(self):
        """PyTorch's figures count also where it failed after them."""
        lib = self.gpu()
        found = '{"torch": "2.11", "resnet18": {"compiled": 16146.2, "eager": null}}'
        self.script("path", "python3", text=f"""[ "$1" = -c ] && exit 0
while [ $# -gt 1 ]; do [ "$1" = --out ] && echo '{found}' >"$2"; shift; done
echo "out of memory"; exit 1""")
        self.check(lib, "torch-resnet18", code=1)
        part = self.parts()["torch-resnet18"]
        self.assertIn("exit code 1: out of memory", part["why"])
        self.assertEqual({name: entry["value"] for name, entry in part["figures"].items()},
                         {"PyTorch": "2.11", "resnet18, compiled": 16146.2})

    def test_plans(self):
        """A table that is given lies where the programs look for it, and in the archive."""
        lib = self.gpu()
        with open(self.path("plans.txt"), "w", encoding="utf-8") as f:
            f.write("a=e1\n")
        self.check(lib, "--plans=" + self.path("plans.txt"), "golden")
        kept = os.listdir(os.path.join(self.report, "cache", "csc-train"))
        self.assertEqual(len(kept), 1)
        self.assertRegex(kept[0], r"^plans-NVIDIA-H200-cudnn.*\.txt$")
        with tarfile.open(self.report + ".tar.gz") as tar:
            self.assertEqual(tar.extractfile("report/cache/csc-train/" + kept[0]).read(), b"a=e1\n")

    def test_wanted(self):
        """Figures of an earlier call beside those of PyTorch."""
        lib = self.gpu()
        os.mkdir(self.report)
        figures = {
            "trace": {"resnet18": 20914.5, "sdnet18": 15975, "sdnet18-all": 8212, "sdnet18-all:one-step": 10932},
            "torch-resnet18": {"resnet18, compiled": 16146.2, "resnet18, eager": 11814},
            "torch-224": {"sdnet18-all, published": 1600},
            "feed": {"resnet18, waiting for data": 0.4, "sdnet18, waiting for data": 2},
            "train-sdnet18": {"top1": 0.9512}, "train-resnet18": {"top1": 0.956},
        }
        with open(os.path.join(self.report, "report.json"), "w", encoding="utf-8") as f:
            json.dump({"parts": {name: {"outcome": "passed", "seconds": 9, "why": "", "figures": {
                key: {"value": value, "unit": ""} for key, value in found.items()}}
                for name, found in figures.items()}}, f)
        self.check(lib, "ops")
        for line in ("CIFAR-10, sdnet18: 95.12%, reached (95% wanted)",
                     "CIFAR-10, resnet18 and sdnet18 apart: 0.48 points, NOT reached (below 0.4 points wanted)",
                     "224x224, resnet18, of PyTorch's ResNet-18: 1.295, reached (1.25 wanted)",
                     "224x224, sdnet18, of PyTorch's ResNet-18: 0.9894, NOT reached (1.0 wanted)",
                     "224x224, sdnet18-all, of PyTorch's ResNet-18: 0.5086, NOT reached (0.55 wanted)",
                     "224x224, sdnet18-all, of the published code's speed: 5.133, reached (5 wanted)",
                     "waiting for data, resnet18: 0.4%, reached (below 1% wanted)",
                     "waiting for data, sdnet18: 2%, NOT reached (below 1% wanted)"):
            self.assertIn(line + "\n", self.read("report.txt"))


class Whole(GpuCheck):
    """The programs themselves, on networks of a few channels."""

    def setUp(self):
        super().setUp()
        for name, path in PROGRAMS.items():
            os.symlink(os.path.join(BUILD, path), self.path("bin", name))
        os.symlink(os.path.join(ROOT, "tests", "golden", "layers.safetensors"),
                   self.path("golden", "layers.safetensors"))
        os.symlink(os.path.join(ROOT, "tests", "golden", "sdnet18.json"), self.path("golden", "sdnet18.json"))
        with tarfile.open(self.path("photographs.tar"), "w") as tar:
            for i in range(12):
                info = tarfile.TarInfo(f"train/class{i % 3}/{i}.png")
                data = self.path("one.png")
                with open(data, "wb") as f:
                    f.write(png(i))
                info.size = os.path.getsize(data)
                with open(data, "rb") as f:
                    tar.addfile(info, f)
        subprocess.run([os.path.join(BUILD, "trainer", "csc-pack"), "synth", self.path("cifar"), "--images", "64",
                        "--classes", "4", "--size", "32"], check=True, stdout=subprocess.DEVNULL)

    def all_parts(self, *arguments):
        self.check("--small", "--photographs=" + self.path("photographs.tar"), "--data=" + self.path("cifar"),
                   *arguments)
        parts = self.parts()
        for name, part in parts.items():
            skips = name.startswith("torch") or name in ("sanitizer", "profile", "allreduce")
            self.assertIn(part["outcome"], ("passed", "skipped") if skips else ("passed",), (name, part))
            self.assertEqual(part["why"] == "", part["outcome"] == "passed", part)
        self.assertEqual(self.archived()["parts"], parts)
        self.assertEqual([name for name in os.listdir(self.folder) if name.startswith("gpu-check-")],
                         [])  # large files are gone
        for name in ("resnet18", "sdnet18"):
            figures = parts["feed"]["figures"]
            self.assertGreater(figures[name]["value"], 0)
            self.assertTrue(0 <= figures[name + ", waiting for data"]["value"] <= 100, figures)
            self.assertGreater(figures[name + ", cores used"]["value"], 0)
        self.assertEqual(figures["photographs packed"]["value"], 36)
        return parts

    def test_cpu(self):
        self.script("path", "nvidia-smi", text="exit 9")
        parts = self.all_parts()
        self.assertIn("as measured", parts["trace"]["figures"]["sdnet18-all"]["roofline_of"])
        self.assertIn("conv_forward", self.read("calls-sdnet18-all.txt"))
        self.assertEqual(parts["smoke"]["figures"]["steps are a CUDA graph"]["value"], "no")

    def test_emulated(self):
        if not os.path.exists(os.path.join(BUILD, EMULATED["csc-bench"])):
            self.skipTest("this build has no emulated GPU")
        for name, path in EMULATED.items():
            if os.path.lexists(self.path("bin", name)):
                os.remove(self.path("bin", name))
            os.symlink(os.path.join(BUILD, path), self.path("bin", name))
        for name in NAMED_EMULATED:
            os.remove(self.path("bin", name))
            self.script("bin", name,
                        text="for a; do shift; set -- \"$@\" \"$(echo \"$a\" | sed 's/cuda$/emulated/')\"; done\n"
                                          f"exec {os.path.join(BUILD, PROGRAMS[name])} \"$@\"")
        parts = self.all_parts(self.gpu(), *"smoke golden feed ops train-sdnet18 sanitizer allreduce".split())
        self.assertEqual(parts["smoke"]["figures"]["steps are a CUDA graph"]["value"], "yes")
        self.assertGreater(parts["smoke"]["figures"]["fused"]["value"], 50)
        figure = parts["smoke"]["figures"]["sdnet18-all at 32x32"]
        self.assertEqual(figure["roofline_of"], "4.8 TB/s and 700 TFLOP/s")
        self.assertTrue(0 < figure["roofline"] < 1 and figure["tflop"] > 0 and figure["gb"] > 0, figure)

    def test_killed(self):
        """Whenever it is killed, the archive can be read, and says what was done."""
        self.script("path", "nvidia-smi", text="exit 9")
        process = subprocess.Popen(self.command("--small", "smoke", "trace", "ops"), env=self.environment(),
                                   stdout=subprocess.DEVNULL)
        until = time.monotonic() + 100
        while time.monotonic() < until:
            if os.path.exists(self.report + "/report.json") and "trace" in self.parts():
                break
            time.sleep(0.1)
        time.sleep(0.5)
        process.kill()
        process.wait()
        parts = self.archived()["parts"]
        self.assertEqual((parts["smoke"]["outcome"], parts["trace"]["outcome"]), ("passed", "running"))
        self.assertIn("sdnet18 at 32x32", parts["smoke"]["figures"])


if __name__ == "__main__":
    unittest.main()
