"""What the tests of whole runs share: programs, small datasets, metrics and safetensors, with Python's standard library.

usage: test_X.py BUILD_DIR [unittest arguments]
"""
import json
import os
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from array import array

BUILD = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else "build"
TRAIN = os.path.join(BUILD, "trainer", "csc-train")
EVAL = os.path.join(BUILD, "trainer", "csc-eval")
PACK = os.path.join(BUILD, "trainer", "csc-pack")
SHARED = os.environ.get("CSC_SHARED", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "shared"))

os.environ.setdefault("OMPI_ALLOW_RUN_AS_ROOT", "1")
os.environ.setdefault("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")

CONFIG = """
run: {dir: RUN, log_every: 1}
model: {arch: sdnet18, width: 4}
data: {train: DATA/train, val: DATA/val, augment: cifar, workers: 1}
train: {steps: 12, batch: 32, micro_batch: 8, lr: 0.05, momentum: 0.9, nesterov: true, weight_decay: 5e-4}
device: {threads: 1}
checkpoint: {keep: 20}
"""


def mpirun():
    """None also where the programs were built without MPI."""
    return shutil.which("mpirun") if os.environ.get("CSC_MPI", "1") == "1" else None


def launch(ranks):
    """The front of a command line for so many ranks."""
    if ranks == 1:
        return []
    quiet = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"  # Open MPI keeps memory of plugins that it has unloaded
    return ["env", "ASAN_OPTIONS=" + quiet, mpirun(), "-np", str(ranks), "--oversubscribe", "--bind-to", "none"]


def launch_each(*commands):
    """A command line that starts each of these commands as a rank. mpirun's own form for this, "A : B", kills the mpirun of
    Debian 13 (Open MPI 5.0.7), whatever the programs are."""
    cases = " ".join(f"{rank}) exec {shlex.join(command)};;" for rank, command in enumerate(commands))
    return [*launch(len(commands)), "sh", "-c", f"case $OMPI_COMM_WORLD_RANK in {cases} esac"]


class RunTest(unittest.TestCase):
    """A scratch folder with a synthetic dataset of 160 and 32 images of 16x16 pixels."""

    program = TRAIN

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="csc-runs-")
        cls.data = os.path.join(cls.folder, "data")
        subprocess.run([PACK, "synth", cls.data, "--images", "160", "--classes", "4", "--size", "16"], check=True,
                       stdout=subprocess.DEVNULL)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def config(self, run, text=CONFIG):
        """Writes RUN.yaml, whose run directory is `run`; a new run each time."""
        shutil.rmtree(self.path(run), ignore_errors=True)
        path = self.path(run + ".yaml")
        with open(path, "w") as f:
            f.write(text.replace("RUN", self.path(run)).replace("DATA", self.data))
        return path

    def command(self, config, *arguments, ranks=1):
        return launch(ranks) + [self.program, config, *arguments]

    def train(self, config, *arguments, ranks=1, code=0):
        done = subprocess.run(self.command(config, *arguments, ranks=ranks), capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def start(self, run, *arguments, ranks=1):
        """A job under way, its output in pipes."""
        return subprocess.Popen(self.command(self.config(run), *arguments, ranks=ranks), stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def ranks_of(self, launcher):
        """The processes of mpirun's ranks, by rank."""
        out = {}
        with open(f"/proc/{launcher}/task/{launcher}/children") as f:
            for child in f.read().split():
                with open(f"/proc/{child}/environ") as g:
                    found = [v for v in g.read().split("\0") if v.startswith("OMPI_COMM_WORLD_RANK=")]
                if found:
                    out[int(found[0].split("=")[1])] = int(child)
        return out

    def last_step(self, run):
        try:
            return max([0] + list(self.losses(run)))
        except (OSError, ValueError):
            return 0

    def wait_for_step(self, job, run, step):
        for _ in range(12000):
            if self.last_step(run) >= step:
                return
            if job.poll() is not None:
                self.fail("ended early: " + "".join(job.communicate()))
            time.sleep(0.01)
        self.fail(f"step {step} was not reached")

    def metrics(self, run, event=None):
        with open(self.path(run, "metrics.jsonl")) as f:
            lines = [json.loads(line) for line in f]
        return [m for m in lines if event in (None, m["event"])]

    def losses(self, run):
        """step -> loss; the last record of a step counts."""
        return {m["step"]: m["loss"] for m in self.metrics(run, "step")}

    def checkpoint(self, run, step, name="model.safetensors"):
        return self.path(run, "checkpoints", "step-%08d" % step, name)

    def optimizer(self, run, step):
        """The optimizer state of a checkpoint, whatever the number of its files."""
        out = {}
        for name in sorted(os.listdir(self.checkpoint(run, step, ""))):
            if name.startswith("optimizer"):
                out.update(read_safetensors(self.checkpoint(run, step, name)))
        return out

    def assert_same_file(self, a, b):
        with open(a, "rb") as f, open(b, "rb") as g:
            self.assertTrue(f.read() == g.read(), f"{a} and {b} differ")


def read_safetensors(path):
    """name -> (shape, array of floats)"""
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
        body = f.read()
    out = {}
    for name, e in header.items():
        if name != "__metadata__":
            a, b = e["data_offsets"]
            out[name] = (e["shape"], array({"F32": "f", "F64": "d", "I64": "q"}[e["dtype"]], body[a:b]))
    return out


def relative_error(got, want, start=None):
    """Norm of the difference over all tensors, relative to the norm of `want` (or of its change since `start`)."""
    error = size = 0.0
    for name, (_, values) in want.items():
        base = start[name][1] if start else [0.0] * len(values)
        for g, w, s in zip(got[name][1], values, base):
            error += (g - w) ** 2
            size += (w - s) ** 2
    return (error / size) ** 0.5


def main():
    unittest.main(verbosity=1)
