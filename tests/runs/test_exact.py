"""A resumed run equals an uninterrupted one, ranks equal one process, and csc-eval equals the evaluation during training."""
import os
import shutil
import signal
import subprocess
import time
import unittest

import runs
from runs import CONFIG, RunTest, mpirun, read_safetensors, relative_error


class Resume(RunTest):
    def same_run(self, a, b, last):
        for name in ("model.safetensors", "optimizer.safetensors"):
            self.assert_same_file(self.checkpoint(a, last, name), self.checkpoint(b, last, name))
        self.assertEqual(self.losses(a), self.losses(b))

    def interrupted(self, *extra, ranks=1):
        whole, parts = self.config("whole"), self.config("parts")
        self.train(whole, *extra, ranks=ranks)
        self.train(parts, "--stop-after=5", *extra, ranks=ranks, code=75)
        self.train(parts, "--resume=auto", "--stop-after=2", *extra, ranks=ranks, code=75)
        self.train(parts, "--resume=auto", *extra, ranks=ranks)
        self.assertEqual(len(self.losses("whole")), 12)
        self.same_run("whole", "parts", 12)

    def test_resumed_equals_uninterrupted(self):
        self.interrupted()

    def test_in_the_other_modes(self):
        """Averages, clipping, LARS, one-step gradients, across the end of an epoch, which the run has at steps 5 and 10."""
        self.interrupted("train.ema=0.9", "train.clip=1", "train.optimizer=lars", "train.nesterov=false",
                         "train.lr=2", "csc.backward=one-step", "train.label_smoothing=0.1",
                         "train.decay_norm_and_bias=false", "train.schedule.kind=onecycle",
                         "train.schedule.warmup_epochs=0.5")

    @unittest.skipUnless(mpirun(), "no mpirun")
    def test_two_ranks(self):
        self.interrupted(ranks=2)

    def test_changed_recipe(self):
        """Half a run at one rate and half at another, by --change, is a run whose schedule changes the rate there; what
        the list does not hold stays; averages switched on at a resume start at its weights."""
        whole, parts = self.config("whole"), self.config("parts")
        constant = ["train.schedule.kind=constant"]
        self.train(whole, "train.schedule.kind=step", "train.schedule.milestones=[1]", "train.schedule.gamma=0.4")
        self.train(parts, "--stop-after=5", "train.steps=40", *constant, code=75)
        self.train(parts, "--resume=auto", "train.lr=0.02", *constant, code=2)
        self.assertFalse(self.metrics("parts", "resume"))
        done = self.train(parts, "--resume=auto", "--change=train.lr,train.steps", "train.lr=0.02", *constant)
        changes = "train.steps 40 -> 12, train.lr 0.05 -> 0.02"
        self.assertIn(changes, done.stdout)
        self.assertEqual(self.metrics("parts", "resume")[-1]["changed"], changes)
        self.same_run("whole", "parts", 12)
        averaged = ["--resume=auto", "--change=train.ema,train.steps", "train.lr=0.02", "train.steps=13", *constant]
        self.train(parts, "train.ema=0.75", *averaged)
        before, after = self.optimizer("parts", 12), self.optimizer("parts", 13)
        self.assertFalse([name for name in before if name.startswith("ema.")])
        name = "linear.weight"
        old, new = (read_safetensors(self.checkpoint("parts", step))[name][1] for step in (12, 13))
        for o, n, mean in zip(old, new, after["ema." + name][1]):
            self.assertAlmostEqual(mean, 0.75 * o + 0.25 * n, delta=1e-6)
        self.train(parts, "train.ema=0", *[w.replace("13", "14") for w in averaged])
        self.assertFalse([name for name in self.optimizer("parts", 14) if name.startswith("ema.")])

    def test_resumed_from_an_older_checkpoint(self):
        """A resume from an older checkpoint renames later ones, so that the next resume starts from here."""
        config = self.config("back")
        extra = ["checkpoint.every_steps=3", "checkpoint.every_epochs=0"]
        self.train(config, *extra)
        self.train(config, *extra, "--resume=" + self.path("back", "checkpoints", "step-00000003"), "--stop-after=1", code=75)
        self.train(config, *extra, "--resume=auto", "--stop-after=1", code=75)
        self.assertEqual(self.metrics("back", "resume")[-1]["step"], 4)

    def test_stopped_by_signal(self):
        whole, parts = self.config("whole"), self.config("parts")
        extra = ["train.steps=400", "eval.every_epochs=0", "checkpoint.every_epochs=0"]
        self.train(whole, *extra)
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            job = subprocess.Popen(self.command(parts, "--resume=auto", *extra), stdout=subprocess.DEVNULL)
            before = self.last_step("parts")
            for _ in range(1000):
                if self.last_step("parts") > before + 3:
                    break
                time.sleep(0.01)
            job.send_signal(number)
            self.assertEqual(job.wait(timeout=60), 75)
        self.train(parts, "--resume=auto", *extra)
        self.same_run("whole", "parts", 400)

    @unittest.skipUnless(mpirun(), "no mpirun")
    def test_a_rank_killed(self):
        """After kill -9 of one rank the job ends within 10 seconds, and a resume gives the same bits."""
        whole, parts = self.config("whole"), self.config("parts")
        extra = ["train.steps=300", "eval.every_epochs=0", "checkpoint.every_epochs=0", "checkpoint.every_steps=7"]
        self.train(whole, *extra, ranks=2)
        job = subprocess.Popen(self.command(parts, *extra, ranks=2), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               text=True)
        for _ in range(2000):
            if self.last_step("parts") >= 10:
                break
            time.sleep(0.01)
        os.kill(self.ranks_of(job.pid)[1], signal.SIGKILL)
        start = time.time()
        _, errors = job.communicate(timeout=30)
        self.assertLess(time.time() - start, 10)
        self.assertNotEqual(job.returncode, 0)
        self.assertIn("signal 9", errors)
        self.train(parts, "--resume=auto", *extra, ranks=2)
        self.same_run("whole", "parts", 300)


@unittest.skipUnless(mpirun(), "no mpirun")
class Ranks(RunTest):
    def test_two_ranks_equal_one(self):
        """One step of the same global batch: the same mathematics in another order of summation."""
        start = {}
        for ranks in (1, 2, 4):
            run = f"ranks{ranks}"
            self.train(self.config(run), "train.steps=1", "csc.step_size=0.05", ranks=ranks)
            start[ranks] = read_safetensors(self.checkpoint(run, 1, "optimizer.safetensors"))
        loss = self.losses("ranks1")[1]
        for ranks in (2, 4):
            self.assertAlmostEqual(self.losses(f"ranks{ranks}")[1], loss, delta=1e-6 * abs(loss))
            self.assertLess(relative_error(start[ranks], start[1]), 1e-5)  # momentum: gradient and decay

    def test_deterministic_bits(self):
        """Any number of ranks, changing at every resume, gives the same bits."""
        extra = ["run.deterministic=true"]
        for ranks in (1, 2, 4):
            self.train(self.config(f"bits{ranks}"), *extra, ranks=ranks)
        mixed = self.config("mixed")
        self.train(mixed, "--stop-after=3", *extra, ranks=4, code=75)
        self.train(mixed, "--resume=auto", "--stop-after=3", *extra, ranks=2, code=75)
        self.train(mixed, "--resume=auto", "--stop-after=3", *extra, ranks=1, code=75)
        self.train(mixed, "--resume=auto", *extra, ranks=4)
        for run in ("bits2", "bits4", "mixed"):
            self.assert_same_file(self.checkpoint(run, 12), self.checkpoint("bits1", 12))
            self.assertEqual(self.losses(run), self.losses("bits1"))

    def test_evaluation_leaves_no_trace(self):
        """It converges step sizes on copies, shared out between the ranks: a run that never evaluates has the same bits."""
        extra = ["run.deterministic=true", "model.arch=sdnet18-all", "model.width=4", "train.ema=0.9", "train.steps=6",
                 "train.micro_batch=16"]
        self.train(self.config("never"), *extra, "data.val=none", ranks=2)
        for name, batch in (("own net", 32), ("training's net", 16)):
            with self.subTest(name):
                self.train(self.config("often"), *extra, f"eval.batch={batch}", ranks=2)
                self.assertEqual([m["step"] for m in self.metrics("often", "eval")], [5, 6])
                for file in ("model.safetensors", "optimizer.safetensors"):
                    self.assert_same_file(self.checkpoint("often", 6, file), self.checkpoint("never", 6, file))
                self.assertEqual(self.losses("often"), self.losses("never"))

    def test_what_several_ranks_need(self):
        text = CONFIG.replace(" micro_batch: 8,", "")
        self.assertIn("micro_batch", self.train(self.config("none", text), ranks=2, code=2).stderr)
        error = self.train(self.config("none"), ranks=3, code=2).stderr
        self.assertEqual(sum("csc-train: rank" in line for line in error.splitlines()), 1, error)


class Evaluation(RunTest):
    def evaluate(self, *arguments, ranks=1, data=None):
        out = self.path("eval.json")
        data = data or os.path.join(self.data, "val")
        subprocess.run(runs.launch(ranks) + [runs.EVAL, *arguments, "--data", data, "--json", out, "--threads", "1"],
                       check=True, stdout=subprocess.DEVNULL, timeout=120)
        with open(out) as f:
            return runs.json.load(f)

    @unittest.skipUnless(mpirun(), "no mpirun")
    def test_one_accuracy(self):
        """csc-eval gives the accuracy that training has reported for a checkpoint, while step sizes and averages move."""
        for extra in ([], ["train.ema=0.9", "model.arch=sdnet18-all"]):
            for ranks in (1, 2):
                with self.subTest(extra=extra, ranks=ranks):
                    self.train(self.config("run"), "train.steps=15", "train.lr=0.1", "checkpoint.every_epochs=1", *extra,
                               ranks=ranks)
                    evaluations = self.metrics("run", "eval")
                    self.assertEqual([m["step"] for m in evaluations], [5, 10, 15])
                    for m in evaluations:
                        result = self.evaluate(self.path("run", "checkpoints", "step-%08d" % m["step"]))
                        self.assertEqual((result["top1"], result["top5"]), (m["top1"], m["top5"]))
                        self.assertAlmostEqual(result["loss"], m["loss"], delta=1e-4 * m["loss"])

    def test_damaged_images_are_left_out(self):
        """Damaged images are left out and counted, by csc-train and csc-eval alike; no others take their place."""
        damaged = self.path("damaged")
        shutil.copytree(os.path.join(self.data, "train"), damaged)
        with open(os.path.join(damaged, "shard-00000.csz"), "r+b") as f:
            f.seek(os.path.getsize(f.name) * 3 // 4)
            byte = f.read(1)[0]
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte ^ 255]))
        said = self.train(self.config("run"), "train.steps=5", "data.bad_sample=skip", f"data.val={damaged}").stdout
        m = self.metrics("run", "eval")[-1]
        self.assertGreater(m["missing"], 0)
        self.assertEqual(m["images"] + m["missing"], 160)
        self.assertIn(f"evaluation on {m['images']} images ({m['missing']} damaged ones left out): top-1", said)
        logits = self.path("logits.safetensors")
        whole = self.evaluate(self.path("run"), "--logits", self.path("whole.safetensors"),
                              data=os.path.join(self.data, "train"))
        got = self.evaluate(self.path("run"), "--logits", logits, data=damaged)
        self.assertEqual((whole["images"], whole["missing"]), (160, 0))
        self.assertEqual([got[k] for k in ("images", "missing", "top1")], [m[k] for k in ("images", "missing", "top1")])
        self.assertEqual(sum(map(sum, got["confusion"])), m["images"])
        rows, all_rows = (read_safetensors(self.path(name + ".safetensors"))["logits"] for name in ("logits", "whole"))
        self.assertEqual(rows[0], [m["images"], 4])
        gap = max(i for i in range(m["images"] + 1)
                  if all(abs(a - b) < 1e-4 for a, b in zip(rows[1][:4 * i], all_rows[1])))
        for a, b in zip(rows[1][4 * gap:], all_rows[1][4 * (gap + m["missing"]):]):  # one block
            self.assertAlmostEqual(a, b, delta=1e-4)
        limited = self.evaluate(self.path("run"), "--limit", str(gap + 2), data=damaged)
        self.assertEqual((limited["images"], limited["missing"]), (gap, 2))
        if mpirun():
            shared = self.evaluate(self.path("run"), "--batch", "7", ranks=2, data=damaged)
            for key in ("images", "missing", "confusion"):
                self.assertEqual(shared[key], got[key])
        self.train(self.config("stops"), "train.steps=5", f"data.val={damaged}", code=65)

    def test_csc_eval_agrees(self):
        self.train(self.config("run"), "eval.batch=5")
        in_training = self.metrics("run", "eval")[-1]
        logits_file = self.path("logits.safetensors")
        result = self.evaluate(self.path("run", "checkpoints", "step-00000012"), "--logits", logits_file, "--batch", "7")
        self.assertEqual(result["images"], 32)
        self.assertEqual(in_training["images"], 32)
        self.assertEqual(result["top1"], in_training["top1"])
        self.assertEqual(result["top5"], 1)
        self.assertAlmostEqual(result["loss"], in_training["loss"], delta=1e-4 * result["loss"])
        tensors = read_safetensors(logits_file)
        (count, classes), logits = tensors["logits"]
        labels = tensors["labels"][1]
        hits = sum(max(range(classes), key=lambda k: logits[i * classes + k]) == labels[i] for i in range(count))
        self.assertEqual(hits / count, result["top1"])
        layer = result["layers"][0]
        self.assertEqual(layer["name"], "layer0.0")
        self.assertTrue(0 < layer["nonzeros"] < 1 and 0 < layer["residual"] < 1 and layer["gap"] >= 0, layer)
        if mpirun():
            shared = self.evaluate(self.path("run"), "--batch", "7", ranks=2)
            self.assertEqual(shared["images"], 32)
        self.assertEqual(self.evaluate(self.path("run"), "--limit", "9")["images"], 9)


if __name__ == "__main__":
    runs.main()
