"""Whole runs on emulated GPUs: the trainer over the CUDA backend and NCCL's communicator, with device memory closed to the host.

usage: test_emulated.py BUILD_DIR [unittest arguments]
"""
import collections
import json
import os
import subprocess
import unittest

import runs
from runs import RunTest, main, mpirun, relative_error

EMULATED = os.path.join(runs.BUILD, "tests", "runs", "csc-train-emulated")
BENCH = os.path.join(runs.BUILD, "tests", "runs", "csc-bench-emulated")
CONFIG = """
run: {dir: RUN, log_every: 1}
model: {arch: sdnet18, width: 8}
data: {train: DATA/train, val: DATA/val, augment: cifar, workers: 1}
train: {steps: 3, batch: 8, micro_batch: 4, lr: 0.05, momentum: 0.9, nesterov: true, weight_decay: 5e-4, ema: 0.9}
device: {kind: KIND, precision: fp32, threads: 1}
eval: {batch: 32}
comm: {timeout_s: 20}
checkpoint: {keep: 20, every_steps: 1}
"""


# More CSC-layers than streams, whose power iterations run beside the forward pass; the first convolution is none.
BESIDE = ["model.arch=sdnet18-all", "model.width=4", "model.layers=[%s]" % ", ".join(
    f"layer{stage}.layers.{block}.conv{i}" for stage in (1, 2, 3) for block in (0, 1) for i in (1, 2))]


class Emulated(RunTest):
    program = EMULATED

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        os.environ["XDG_CACHE_HOME"] = os.path.join(cls.folder, "cache")  # where plans are kept

    def run_on(self, kind, run, *arguments, ranks=1, code=0, **environment):
        before = dict(os.environ)
        os.environ.update(environment)
        try:
            self.program = runs.TRAIN if kind == "cpu" else EMULATED
            return self.train(self.config(run, CONFIG.replace("KIND", kind)), *arguments, ranks=ranks, code=code)
        finally:
            os.environ.clear()
            os.environ.update(before)

    def test_as_on_the_cpu(self):
        for arch, steps in (("sdnet18", 3), ("sdnet18-all", 1)):  # -all: later steps depend on how codes at a threshold round
            for kind in ("cpu", "cuda"):
                done = self.run_on(kind, kind, f"model.arch={arch}", f"train.steps={steps}")
            want, got = self.losses("cpu"), self.losses("cuda")
            self.assertEqual(list(got), list(range(1, steps + 1)))
            for step, loss in want.items():
                self.assertAlmostEqual(got[step], loss, delta=1e-5)
            self.assertLess(relative_error(self.optimizer("cuda", 1), self.optimizer("cpu", 1)), 1e-4)
            self.assertNotIn("cannot be locked", done.stderr)
            self.assertEqual([m["images"] for m in self.metrics("cuda", "eval")], [32])

    def test_bf16(self):
        self.run_on("cpu", "cpu", "train.steps=1")
        self.run_on("cuda", "cuda", "train.steps=1", "device.precision=bf16")
        self.assertAlmostEqual(self.losses("cuda")[1], self.losses("cpu")[1], delta=0.02)

    def test_resume(self):
        config = self.config("whole", CONFIG.replace("KIND", "cuda"))
        self.train(config)
        config = self.config("halves", CONFIG.replace("KIND", "cuda"))
        self.train(config, "--stop-after=1", code=75)
        self.train(config, "--resume=auto")
        for name in ("model.safetensors", "optimizer.safetensors"):
            self.assert_same_file(self.checkpoint("whole", 3, name), self.checkpoint("halves", 3, name))

    def trace(self, arch):
        out = self.path("trace.json")
        subprocess.run([BENCH, "step", "--device", "cuda", "--arch", arch, "--width", "8", "--size", "16",
                        "--batch", "4", "--steps", "1", "--trace", "--json", out],
                       check=True, stdout=subprocess.DEVNULL, timeout=200)
        with open(out) as f:
            return json.load(f)["operations"]

    def test_products_of_matrices(self):
        """Pointwise convolutions of stride 1 with nothing fused are cuBLASLt's where that is faster, as always here."""
        by_gemm = collections.Counter()
        for line in self.trace("resnet50"):
            if "cuBLASLt" in line["shape"]:
                self.assertIn("1x1/1", line["shape"])
                by_gemm[line["operation"]] += line["calls"]
            elif line["operation"] == "conv_gradient":
                self.assertNotIn("1x1/1", line["shape"])
        self.assertEqual(set(by_gemm), {"conv_forward", "conv_adjoint", "conv_gradient"})

    def counts(self, run, *arguments, ranks=1, **environment):
        """How often the host waited, queued or launched a graph in a run without evaluation, or checkpoints before its end."""
        path = self.path("counts")
        self.run_on("cuda", run, "eval.every_epochs=1000", "checkpoint.every_steps=0", "checkpoint.every_epochs=0", *arguments,
                    ranks=ranks, CSC_FAKE_COUNTS=path, **environment)
        with open(path) as f:
            return collections.Counter({name: int(count) for name, count in (line.split() for line in f)})

    def per_step(self, *arguments, **environment):
        """The same for one of the steps that come when all is recorded."""
        self.counts("plans", *arguments, "train.steps=1", **environment)  # measured once
        few, more = (self.counts(f"steps{n}", *arguments, f"train.steps={n}", **environment) for n in (4, 6))
        return {name: (more[name] - few[name]) / 2 for name in more}

    def test_waits(self):
        """A step waits twice, at its end, for its loss and for the gradient's norm, and once for each batch to arrive. All but its
        beginning and its end are graphs, one for each of two batches; power iterations go beside the first."""
        count = self.per_step()
        self.assertEqual((count["streams"], count["events"], count["graphs"]), (2, 2, 2))
        self.assertLess(count["queued"], 20)
        count = self.per_step(CSC_CUDA_GRAPH="0")
        self.assertEqual((count["streams"], count["events"], count["graphs"]), (2, 2, 0))
        self.assertGreater(count["queued"], 400)

    def same_runs(self, first, second, step):
        for name in ("model.safetensors", "optimizer.safetensors"):
            self.assert_same_file(self.checkpoint(first, step, name), self.checkpoint(second, step, name))
        self.assertEqual(self.losses(first), self.losses(second))

    def test_graphs(self):
        """A run that replays graphs does the same, to the bit, while eta, the learning rate and the batches change."""
        changing = ["train.steps=6", "csc.mu=0.3", "train.schedule.kind=step", "train.schedule.milestones=[2]",
                    "train.schedule.gamma=0.5", "eval.every_epochs=1", "checkpoint.every_steps=6"]
        for arguments in (["train.micro_batch=2"], ["run.deterministic=true", "train.micro_batch=2"],
                          ["device.precision=bf16"], ["csc.backward=one-step", "csc.steps=3"], ["csc.step_size=0.2"],
                          ["model.arch=sdnet18-all", "model.layers=[layer0.0]"], BESIDE):
            with self.subTest(arguments=arguments):
                self.run_on("cuda", "calls", *changing, *arguments, CSC_CUDA_GRAPH="0")
                done = self.run_on("cuda", "graphs", *changing, *arguments)
                self.same_runs("calls", "graphs", 6)
                self.assertNotIn("one by one", done.stdout + done.stderr)

    def test_evaluation_leaves_no_trace(self):
        """Graphs that run between evaluations, whose step sizes converge on copies, do as in a run that never evaluates."""
        extra = ["train.steps=5", "train.batch=40", "train.micro_batch=20", "checkpoint.every_steps=5", *BESIDE]
        for ranks, environment in ((1, {}), (2, {"CSC_FAKE_GPUS": "2"})):
            if ranks > 1 and not mpirun():
                continue
            self.run_on("cuda", "never", *extra, "data.val=none", ranks=ranks, **environment)
            for batch in (20, 32):  # training's own net, and another one
                with self.subTest(ranks=ranks, batch=batch):
                    self.run_on("cuda", "often", *extra, f"eval.batch={batch}", ranks=ranks, **environment)
                    self.assertEqual([m["step"] for m in self.metrics("often", "eval")], [4, 5])
                    self.same_runs("never", "often", 5)

    def test_no_graphs(self):
        """A training pass that cannot be captured as a graph runs all the same, with one line that says why."""
        changing = ["train.steps=3", "checkpoint.every_steps=3", "train.batch=4", "comm.timeout_s=200"]
        for arguments, environment, line in ((["csc.backward=implicit"], {}, "csc.backward is implicit"),
                                             ([], {"CSC_FAKE_GRAPH": "fails"}, "CUDA graph capture failed")):
            with self.subTest(line=line):
                self.run_on("cuda", "calls", *changing, *arguments, CSC_CUDA_GRAPH="0")
                done = self.run_on("cuda", "graphs", *changing, *arguments, **environment)
                self.same_runs("calls", "graphs", 3)
                self.assertEqual((done.stdout + done.stderr).count(line), 1, done.stdout + done.stderr)

    def test_trace(self):
        """Per CSC-layer, steps of FISTA apart: three convolutions forward, three in the backward pass (without the image's
        gradient two), and all weight gradients in one call."""
        lines = self.trace("sdnet18-all")
        calls = collections.Counter()
        for line in lines:
            if line["shape"].startswith("4x"):  # the power iterations' are of one image
                calls[line["operation"]] += line["calls"]
        layers, shortcuts = 17, 3
        self.assertEqual(calls["conv_gradient of 3"], layers)
        stacked = [line for line in lines if line["operation"] == "conv_gradient of 3"]
        apart = [line["shape"] for line in stacked if "one call" not in line["shape"]]  # of cuDNN, too
        self.assertEqual([shape for shape in apart if "unfolded" not in shape], [])  # the stem keeps its folded images
        self.assertEqual(calls["conv_forward"], 3 * layers + shortcuts)
        self.assertEqual(calls["conv_adjoint"], 3 * layers - 1 + shortcuts)
        self.assertEqual([line for line in lines if line["operation"] == "mask"], [])  # batch norm's backward pass does it
        self.assertTrue(any("fused in one pass, sm90 kernel" in line["shape"] for line in lines))
        self.assertGreater(sum(line["share"] for line in lines), 0.5)
        for line in lines:
            self.assertGreaterEqual(line["mb"], 0.999 * line["least_mb"], line)
        fused = [line for line in lines if "one pass" in line["shape"] and "x3, " not in line["shape"]]  # images are folded
        self.assertTrue(all(line["mb"] == line["least_mb"] for line in fused), fused)

    @staticmethod
    def choices(text):
        """Of a table of plans: graph to choice."""
        return dict(line.split(" ")[0].split("=") for line in text.splitlines() if not line.startswith("#"))

    def test_plans_are_kept(self):
        """Measured once for a kind of GPU; another run takes them over, and one damaged file is no obstacle."""
        cache = self.path("kept")
        kept = os.path.join(cache, "csc-train", "plans-Fake-GPU-1-cudnn91900.txt")
        self.run_on("cuda", "first", "train.steps=1", XDG_CACHE_HOME=cache)
        with open(kept) as f:
            text = f.read()
        first = self.choices(text)
        plain = [key for key in first if key.split(".")[2] == "0" and key.split(".")[1] != "2"]  # nothing fused, no gradients
        self.assertGreater(len(plain), 5)
        with open(kept, "w") as f:  # of these the second one
            f.write(text + "".join(key + "=e1\n" for key in plain))
        self.run_on("cuda", "second", "train.steps=1", XDG_CACHE_HOME=cache)
        with open(self.checkpoint("second", 1, "state.json")) as f:
            tuned = json.load(f)["extra"]["tuned"]
        taken = [key for key in first if key in tuned]  # others were measured only to be compared with what is fused
        self.assertGreater(len(set(taken) & set(plain)), 5)
        for key in taken:
            self.assertEqual(tuned[key], "e1" if key in plain else first[key])
        with open(kept, "w") as f:
            f.write("no plan at all\n")
        done = self.run_on("cuda", "third", "train.steps=1", XDG_CACHE_HOME=cache)
        self.assertIn("will be replaced", done.stderr)
        with open(kept) as f:
            self.assertEqual(f.read(), text)

    def test_plans_of_csc_bench(self):
        """A table of one's own: written, read again, and what was tried beside it."""
        plans, tried = self.path("plans.txt"), self.path("tried.txt")
        options = ["step", "--width", "4", "--size", "16", "--batch", "2", "--steps", "1", "--plans", plans]

        def bench(*more, code=0):
            done = subprocess.run([BENCH, *options, *more], capture_output=True, text=True, timeout=300)
            self.assertEqual(done.returncode, code, done.stderr)
            return done.stderr

        bench("--device", "cuda", "--candidates", tried)
        with open(plans) as f:
            text = f.read()
        self.assertRegex(text, r"(?m)^fake\S+=e2:24\.5 0\.5000 \S+ fake_sm90_kernel_0\.5_ms$")
        self.assertIn("=apart ", text)
        with open(tried) as f:
            measured = f.read().splitlines()
        self.assertGreater(len(measured), len(self.choices(text)))
        os.unlink(tried)
        bench("--device", "cuda", "--candidates", tried)
        self.assertFalse(os.path.exists(tried))  # nothing was measured again
        with open(plans) as f:
            self.assertEqual(f.read(), text)
        with open(plans, "w") as f:
            f.write("# mine\nno plan at all\n")
        self.assertIn("plans.txt:2: ", bench("--device", "cuda", code=65))
        self.assertIn("--device cuda", bench(code=2))

    def test_no_code_for_the_card(self):
        """A driver and a GPU, but no kernel that it can run: found at the start, not at the first launch."""
        done = self.run_on("cuda", "cuda", "train.steps=1", code=2, CSC_FAKE_CODE="none")
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        for word in ("device.kind: this build has no code for GPU 0, Fake GPU/1", "no kernel image", "=90; use cpu"):
            self.assertIn(word, done.stderr)
        done = self.run_on("auto", "auto", "train.steps=1", CSC_FAKE_CODE="none")
        said = [line for line in (done.stdout + done.stderr).splitlines() if "device.kind is auto" in line]
        self.assertEqual(len(said), 1, done.stdout + done.stderr)
        self.assertIn("the CPU, since this build has no code for GPU 0", said[0])
        self.assertEqual(self.metrics("auto", "start")[0]["device"], "cpu")
        bench = subprocess.run([BENCH, "step", "--device", "cuda", "--steps", "1"], capture_output=True, text=True,
                               env={**os.environ, "CSC_FAKE_CODE": "none"}, timeout=100)
        self.assertEqual((bench.returncode, bench.stderr.count("\n")), (2, 1), bench.stderr)

    def test_nothing_is_fused(self):
        """That cuDNN lacks its compiler, or plans for what is fused, is a warning, once for all ranks."""
        arguments, words = ["train.steps=1", "device.precision=bf16"], "warning: cuDNN "
        done = self.run_on("cuda", "all", *arguments)
        self.assertNotIn(words, done.stderr)
        missing, plain = {"CSC_FAKE_NVRTC": "none"}, {"CSC_FAKE_DNN": "plain"}
        for environment, line in ((missing, "does not find libnvrtc.so.13"), (plain, "has no plan for"),
                                  ({**missing, **plain}, "does not find libnvrtc.so.13")):
            for ranks in (1, 2) if mpirun() else (1,):
                with self.subTest(environment=environment, ranks=ranks):
                    done = self.run_on("cuda", "some", *arguments, ranks=ranks, CSC_FAKE_GPUS="2",
                                       XDG_CACHE_HOME=self.path("unfused"), **environment)
                    self.assertEqual(done.stderr.count(words), 1, done.stderr)
                    self.assertIn(words + line, done.stderr)

    def test_profile(self):
        """A profiler records the timed steps, all of them and no other; on the CPU there is none to tell."""
        counts, out = self.path("counts"), self.path("step.json")
        command = [BENCH, "step", "--arch", "sdnet18", "--width", "8", "--size", "16", "--batch", "4", "--steps", "3", "--profile",
                   "--json", out]
        done = subprocess.run([*command, "--device", "cuda"], env={**os.environ, "CSC_FAKE_COUNTS": counts},
                              capture_output=True, text=True, timeout=200)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(counts) as f:
            count = {name: int(n) for name, n in (line.split() for line in f)}
        self.assertEqual(count["profiled_graphs"], 3)
        self.assertGreater(count["graphs"], 3)
        with open(out) as f:
            self.assertIs(json.load(f)["graph"], True)
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1), done.stderr)
        self.assertIn("--profile needs --device cuda", done.stderr)

    @unittest.skipUnless(mpirun(), "no MPI")
    def test_two_gpus(self):
        self.run_on("cuda", "one")
        self.run_on("cuda", "two", ranks=2, CSC_FAKE_GPUS="2")
        self.run_on("cuda", "bf16", "comm.grad_dtype=bf16", ranks=2, CSC_FAKE_GPUS="2")
        self.run_on("cuda", "own", ranks=2, CSC_FAKE_GPUS="own")
        self.same_runs("two", "own", 3)
        self.run_on("cuda", "closed", ranks=2, CSC_FAKE_GPUS="2", CSC_FAKE_NCCL="no-window")
        one, two, bf16 = self.losses("one"), self.losses("two"), self.losses("bf16")
        self.same_runs("two", "closed", 3)
        self.assertAlmostEqual(two[1], one[1], delta=1e-6)
        self.assertAlmostEqual(bf16[1], one[1], delta=1e-2)
        for other, tolerance in (("two", 1e-5), ("bf16", 1e-2)):
            self.assertLess(relative_error(self.optimizer(other, 1), self.optimizer("one", 1)), tolerance)

    @unittest.skipUnless(mpirun(), "no MPI")
    def test_two_gpus_graphs(self):
        """Buckets are sent between the pieces of a graph, as many as there are buckets; the result is the same to the bit."""
        small = ["comm.bucket_mb=0.02", "train.steps=5", "checkpoint.every_steps=5"]
        for wire in ("fp32", "bf16"):
            with self.subTest(wire=wire):
                arguments = [*small, f"comm.grad_dtype={wire}", "train.micro_batch=2"]
                self.run_on("cuda", "calls", *arguments, ranks=2, CSC_FAKE_GPUS="2", CSC_CUDA_GRAPH="0")
                done = self.run_on("cuda", "graphs", *arguments, ranks=2, CSC_FAKE_GPUS="2")
                self.same_runs("calls", "graphs", 5)
                self.assertNotIn("one by one", done.stdout + done.stderr)
        count = self.per_step("comm.bucket_mb=0.02", ranks=2, CSC_FAKE_GPUS="2")
        self.assertGreater(count["sums"], 5)
        self.assertEqual(count["behind_graphs"], count["sums"])  # each begins with the piece that completes it
        self.assertEqual(count["graphs"], count["sums"])
        self.assertEqual((count["streams"], count["events"]), (2, 1))

    @unittest.skipUnless(mpirun(), "no MPI")
    def test_allreduce(self):
        out = self.path("allreduce.json")
        command = [*runs.launch(2), BENCH, "allreduce", "--device", "cuda", "--max-mb", "1", "--rounds", "1", "--json", out]
        done = subprocess.run(command, env={**os.environ, "CSC_FAKE_GPUS": "2"}, capture_output=True, text=True, timeout=100)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("2 GPUs", done.stdout)
        with open(out) as f:
            rows = json.load(f)["sizes"]
        self.assertEqual([row["bytes"] for row in rows], [64000, 128000, 256000, 512000])
        for row in rows:
            self.assertEqual(set(row), {"bytes", "fp32", "bf16", "buckets"})

    @unittest.skipUnless(mpirun(), "no MPI")
    def test_allreduce_alone(self):
        """NCCL on the one GPU that is there, without mpirun."""
        out, counts = self.path("alone.json"), self.path("counts")
        done = subprocess.run([BENCH, "allreduce", "--device", "cuda", "--max-mb", "1", "--rounds", "1", "--json", out],
                              env={**os.environ, "CSC_FAKE_COUNTS": counts}, capture_output=True, text=True, timeout=100)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("1 GPU\n", done.stdout)
        with open(out) as f:
            rows = json.load(f)["sizes"]
        self.assertEqual([row["bytes"] for row in rows], [64000, 128000, 256000, 512000])
        self.assertTrue(all(row["fp32"]["seconds"] > 0 and row["fp32"]["bus_gb_s"] == 0 for row in rows), rows)
        with open(counts) as f:
            sums = dict(line.split() for line in f)["sums"]
        self.assertEqual(int(sums), 3 * 3 * len(rows))  # fp32, bf16 and one bucket, two to warm up and one that counts

    @unittest.skipUnless(mpirun(), "no MPI")
    def test_scale(self):
        """Steps with buckets of three sizes in turn; the sums are NCCL's."""
        config, out = self.config("scale", CONFIG.replace("KIND", "cuda")), self.path("scale.json")
        done = subprocess.run([*runs.launch(2), BENCH, "scale", config, "comm.bucket_mb=0.1", "--steps", "2", "--json", out],
                              env={**os.environ, "CSC_FAKE_GPUS": "2"}, capture_output=True, text=True, timeout=200)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("with NCCL beside the backward pass", done.stdout)
        with open(out) as f:
            result = json.load(f)
        self.assertGreater(result["measured_s"], 0)
        self.assertGreater(len(result["buckets"]), 1)
        self.assertGreater(len(result["parameters"]), len(result["buckets"]))

    @unittest.skipUnless(mpirun(), "no MPI")
    def test_failures(self):
        for environment, arguments, code, words in (
                ({"CSC_FAKE_GPUS": "1"}, [], 2, ["ranks 0 and 1 share GPU 0000:01:00.0", "start as many ranks on a host as it has GPUs"]),
                # what is taken at the start leaves some 5 MB
                ({"CSC_FAKE_MEMORY": "505"}, [], 71, ["on each GPU, but", "available: lower train.micro_batch"]),
                ({"CSC_FAKE_SHARED_GPU": "1"}, [], 2, ["ranks 0 and 1 share GPU 0000:01:00.0"]),
                ({}, ["run.deterministic=true"], 2, ["run.deterministic", "use one GPU, or the CPU"]),
                ({"CSC_FAKE_NCCL": "error@4"}, [], 69, ["socket closed by a peer of the fake NCCL"]),
                ({"CSC_FAKE_NCCL": "hang@4"}, ["comm.timeout_s=3"], 69, ["waited 3 s", "a rank hangs or was lost"]),
                ({"CSC_FAKE_NCCL": "start"}, ["comm.timeout_s=3"], 69, ["no answer within comm.timeout_s"])):
            with self.subTest(environment=environment, arguments=arguments):
                done = self.run_on("cuda", "fails", *arguments, ranks=2, code=code, **{"CSC_FAKE_GPUS": "2", **environment})
                for word in words:
                    self.assertIn(word, done.stderr)
                said = [line for line in done.stderr.splitlines() if line.startswith("csc-train:") and "warning" not in line]
                self.assertEqual(len(said), 1, done.stderr)


if __name__ == "__main__":
    main()
