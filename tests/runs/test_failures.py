"""What csc-train says and leaves behind when something goes wrong."""
import os
import resource
import shutil
import signal
import struct
import subprocess
import time
import unittest

import runs
from runs import CONFIG, TRAIN, RunTest, mpirun

OTHER_ONEDNN = os.path.join(runs.BUILD, "tests", "runs", "csc-train-other-onednn")


class Failures(RunTest):
    def says(self, done, *words):
        lines = [l for l in done.stderr.splitlines() if l.startswith("csc-train") and "error: " in l]
        self.assertEqual(len(lines), 1, done.stderr)
        for word in words:
            self.assertIn(word, lines[0])

    def test_usage(self):
        config = self.config("run")
        self.says(self.train("nowhere.yaml", code=2), "nowhere.yaml")
        self.says(self.train(config, "--wrong", code=2), "--wrong")
        self.says(self.train(config, "train.lr=fast", code=2), "train.lr")
        self.says(self.train(config, "device.kind=cuda", code=2), "device.kind")
        self.says(self.train(config, "device.precision=tf32", code=2), "device.precision")
        self.says(self.train(config, "log.pictures_every_epochs=1", code=2), "log.tensorboard")
        self.says(self.train(config, "data.cache=/tmp", code=2), "data.cache_gb")
        self.says(self.train(config, "model.classes=3", code=2), "classes")
        self.says(self.train(config, "train.batch=192", "train.micro_batch=192", code=2), "train.batch")
        self.says(self.train(config, "model.layers=[layer0.0, layer0.0]", code=2), "layer0.0")
        self.says(self.train(config, "model.layers=[layer9.conv1]", code=2), "layer9.conv1")
        self.says(self.train(config, "--stop-after=0", code=2), "--stop-after")
        self.assertFalse(os.path.exists(self.path("run")), "a refused run left something")

    def test_order_of_checks(self):
        """Errors are found in the order configuration, device, data."""
        bad = "data.train=/nonexistent"
        self.says(self.train(self.config("run"), bad, "device.kind=cuda", "train.lr=-1", code=2), "train.lr")
        self.says(self.train(self.config("run"), bad, "device.kind=cuda", code=2), "device.kind")
        self.says(self.train(self.config("run"), bad, code=74), "/nonexistent")

    def test_dry_run_writes_nothing(self):
        out = self.train(self.config("run"), "--dry-run").stdout
        for word in ("layer4.1.conv2", "parameters", "steps", "memory", "disk", "160 images"):
            self.assertIn(word, out)
        self.assertFalse(os.path.exists(self.path("run")))

    def test_printed_configuration_runs(self):
        printed = self.train(self.config("run"), "--print-config").stdout
        path = self.config("again")
        with open(path, "w") as f:
            f.write(printed)
        self.assertEqual(self.train(path, "--print-config").stdout, printed)
        self.train(path, "train.steps=1")

    def test_a_run_is_not_overwritten(self):
        config = self.config("run")
        self.train(config, "train.steps=2")
        self.says(self.train(config, "train.steps=2", code=2), "--resume")
        self.says(self.train(config, "--resume=" + self.path("missing"), code=74), "missing")
        self.says(self.train(config, "--resume=auto", "train.steps=2", "train.lr=0.3", code=2), "train.lr")
        self.assertIn("00000002", self.train("--list-checkpoints", self.path("run")).stdout)

    def test_a_moved_run(self):
        """A run's config.yaml means the folder in which it lies. A line says if there is nothing to resume."""
        self.train(self.config("run"), "--stop-after=2", code=75)
        shutil.rmtree(self.path("moved"), ignore_errors=True)
        os.rename(self.path("run"), self.path("moved"))
        config = self.path("moved", "config.yaml")
        done = self.train(config, "--resume=auto", "--stop-after=1", code=75)
        self.assertIn("resuming from " + self.checkpoint("moved", 2, "")[:-1], done.stdout)
        self.assertEqual(self.metrics("moved", "resume")[-1]["step"], 2)
        self.assertFalse(os.path.exists(self.path("run")))
        done = self.train(config, "--resume=auto", "run.name=second", "--stop-after=1", code=75)
        self.assertIn("nothing to resume in " + self.path("second"), done.stdout)
        shutil.rmtree(self.path("second"))

    def test_own_configuration_is_kept(self):
        config = self.config("own")
        os.mkdir(self.path("own"))
        with open(config) as f, open(self.path("own", "config.yaml"), "w") as g:
            g.write("# mine\n" + f.read())
        self.assertIn("own-config.yaml", self.train(config, "train.steps=1").stdout)
        with open(self.path("own", "own-config.yaml")) as f:
            self.assertEqual(f.readline(), "# mine\n")
        self.assertNotIn("own-config", self.train(config, "train.steps=1", "--resume=auto").stdout)

    def test_weights_to_start_from(self):
        """--dry-run finds what is wrong with them; a start that fails leaves no folder."""
        self.train(self.config("w"), "train.steps=1", "data.val=none")
        good = self.checkpoint("w", 1)
        with open(good, "rb") as f:
            data = f.read()
        bad = self.path("bad.safetensors")
        for whole, code, words in ((None, 74, [bad]), (data[:500], 65, [bad]),
                                   (data.replace(b'"F32"', b'"F16"', 1), 65, ["is F16, F32 is needed"]),
                                   (data[:-4] + struct.pack("<f", float("nan")), 65, ["holds nan"])):
            if whole:
                with open(bad, "wb") as f:
                    f.write(whole)
            config = self.config("run")
            for extra in ["--dry-run"], []:
                self.says(self.train(config, "model.init_from=" + bad, *extra, code=code), *words)
            self.assertFalse(os.path.exists(self.path("run")))
        self.train(config, "model.init_from=" + good, "--dry-run")
        self.says(self.train(config, "model.init_from=" + good, "model.width=8", "--dry-run", code=65), "is 4x3x3x3",
                  "network's is 8x3x3x3")
        self.says(self.train(self.config("w2"), "--resume=" + os.path.dirname(good), "model.classes=9", code=2),
                  "another model.classes: the checkpoint has 4, this configuration 9")

    def test_recipes_that_cannot_learn(self):
        small = ["data.image_size=8", "train.batch=4", "train.steps=1", "data.val=none"]
        self.assertIn("one value per channel", self.train(self.config("run"), *small, "train.micro_batch=1").stderr)
        self.assertNotIn("one value", self.train(self.config("run"), *small, "train.micro_batch=2").stderr)
        warmup = "train.schedule.warmup_epochs=1"
        self.says(self.train(self.config("run"), "train.steps=4", warmup, code=2), "warmup_epochs of 1 is longer")
        self.train(self.config("run"), "train.steps=5", "train.schedule.warmup_epochs=1", "--dry-run")

    def test_damaged_checkpoint(self):
        config = self.config("run")
        extra = ["train.steps=6", "checkpoint.every_steps=2", "checkpoint.every_epochs=0"]
        self.train(config, *extra)
        whole = self.losses("run")
        for name in ("model.safetensors", "optimizer.safetensors", "state.json", "config.yaml", "MANIFEST"):
            path = self.checkpoint("run", 6, name)
            with open(path, "r+b") as f:
                f.seek(os.path.getsize(path) // 2)
                byte = f.read(1)
                f.seek(-1, os.SEEK_CUR)
                f.write(bytes([byte[0] ^ 1]))
            done = self.train(config, "--resume=auto", *extra)
            self.assertIn("step-00000006", done.stderr)  # why it was passed over
            self.assertEqual(self.metrics("run", "resume")[-1]["step"], 4)
            self.assertEqual(self.losses("run"), whole)
        for step in (2, 4, 6):
            os.truncate(self.checkpoint("run", step), 100)
        self.says(self.train(config, "--resume=auto", *extra, code=65), "checkpoint")
        self.train("--list-checkpoints", self.path("run"), code=65)

    def test_full_disk(self):
        """On a full disk training continues and says so, and the last good checkpoint stays; later checkpoints are written again."""
        disk = self.path("disk")
        os.makedirs(disk)
        config = self.config("run")
        with open(config, "w") as f:
            f.write(CONFIG.replace("RUN", os.path.join(disk, "run")).replace("DATA", self.data))
        script = f"""
            cd {disk} && mount -t tmpfs -o size=3m csc . && cd {disk} || exit 77
            {TRAIN} {config} train.steps=1000000 eval.every_epochs=0 checkpoint.every_epochs=0 checkpoint.every_steps=50 \\
                checkpoint.keep=2 >/dev/null 2>{self.path("errors")} &
            newest() {{ ls run/checkpoints | grep ^step | tail -1; }}
            until [ -e run/checkpoints/step-00000100 ]; do sleep 0.02; kill -0 $! || exit 1; done
            dd if=/dev/zero of=fill bs=4k 2>/dev/null
            until grep -q "no checkpoint at step" {self.path("errors")}; do sleep 0.05; kill -0 $! || exit 2; done
            {TRAIN} --list-checkpoints run || exit 3
            last=$(newest)
            rm fill
            until [ "$(newest)" != "$last" ]; do sleep 0.05; kill -0 $! || exit 4; done
            kill -USR1 $!
            wait $!
            [ $? = 75 ] || exit 5
            {TRAIN} --list-checkpoints run"""
        unshare = ["unshare", *([] if os.geteuid() == 0 else ["-r"]), "--mount", "--pid", "--fork", "--kill-child"]
        done = subprocess.run([*unshare, "sh", "-c", script], capture_output=True, text=True, timeout=300)
        if done.returncode == 77 or "unshare" in done.stderr:
            self.skipTest("no tmpfs can be mounted here: " + done.stderr.strip())
        with open(self.path("errors")) as f:
            errors = f.read()
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr + errors)
        self.assertIn("the last good checkpoint stays", errors)
        self.assertIn("No space left on device", errors)

    def test_no_space_at_the_end(self):
        """The last checkpoint of a run must be written: otherwise the job fails, with one line."""
        ranks = 2 if mpirun() else 1
        job = subprocess.Popen([*runs.launch(ranks), "sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\"", TRAIN, self.config("run"),
                                "train.steps=1000000", "eval.every_epochs=0", "checkpoint.every_epochs=0"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.wait_for_step(job, "run", 5)
        rank = self.ranks_of(job.pid)[0] if ranks > 1 else job.pid
        limit = 150000  # of a file's size, as of a full disk: less than the weights, more than the metrics so far
        resource.prlimit(rank, resource.RLIMIT_FSIZE, (limit, resource.prlimit(rank, resource.RLIMIT_FSIZE)[1]))
        job.send_signal(signal.SIGUSR1)
        errors = job.communicate(timeout=120)[1]
        self.assertEqual(job.returncode, 74, errors)
        lines = [l for l in errors.splitlines() if "error: " in l]
        self.assertEqual(len(lines), 1, errors)
        self.assertRegex(lines[0], "model.safetensors: File too large")
        self.assertEqual(os.listdir(self.path("run", "checkpoints")), [])

    def test_damaged_data(self):
        bad = self.path("bad")
        shutil.copytree(os.path.join(self.data, "train"), bad)
        shard = os.path.join(bad, "shard-00000.csz")
        with open(shard, "r+b") as f:
            f.seek(os.path.getsize(shard) // 2)
            byte = f.read(1)
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte[0] ^ 16]))
        self.says(self.train(self.config("run"), "data.train=" + bad, code=65), "shard-00000")
        done = self.train(self.config("run"), "data.train=" + bad, "data.bad_sample=skip")
        self.assertIn("warning", done.stderr)
        self.assertGreater(self.metrics("run", "step")[-1]["skipped_samples"], 0)
        os.remove(shard)
        self.says(self.train(self.config("run"), "data.train=" + bad, code=74), "shard-00000")

    def test_non_finite(self):
        done = self.train(self.config("run"), "train.lr=1e30", code=87)
        self.says(done, "step", "train.on_nonfinite")
        self.assertFalse(os.path.exists(self.checkpoint("run", 1)))
        self.train(self.config("run"), "train.lr=1e30", "train.on_nonfinite=skip", code=87)  # more than 10 in a row

    def test_second_writer(self):
        config = self.config("run")
        job = subprocess.Popen(self.command(config, "train.steps=100000", "eval.every_epochs=0", "checkpoint.every_epochs=0"),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(1000):
                if os.path.exists(self.path("run", "metrics.jsonl")):
                    break
                time.sleep(0.01)
            self.says(self.train(config, "--resume=auto", code=2), str(job.pid))
        finally:
            job.kill()
            job.wait()
        self.train(config, "--resume=auto", "train.steps=1")  # a dead holder's lock is taken over

    @unittest.skipUnless(mpirun(), "no mpirun")
    def test_one_line_from_many_ranks(self):
        for arguments, code in ((["train.lr=fast"], 2), (["data.train=/nonexistent"], 74), (["train.lr=1e30"], 87)):
            done = self.train(self.config("run"), *arguments, ranks=4, code=code)
            self.says(done, "rank")

    @unittest.skipUnless(mpirun() and os.path.exists(OTHER_ONEDNN), "built without MPI or oneDNN")
    def test_another_onednn_on_one_rank(self):
        config = self.config("run")
        done = subprocess.run(runs.launch_each([TRAIN, config], [OTHER_ONEDNN, config]), capture_output=True, text=True,
                              timeout=120)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.says(done, "rank 1", "'oneDNN 1.96.7' here", "on rank 0: install one version")

    @unittest.skipUnless(mpirun(), "no mpirun")
    def test_one_rank_fails_in_its_loader(self):
        """The rank that reads a damaged block in the middle of the dataset ends the job, with one line."""
        bad = self.path("late")
        shutil.copytree(os.path.join(self.data, "train"), bad)
        shard = os.path.join(bad, "shard-00000.csz")
        with open(shard, "r+b") as f:
            f.seek(os.path.getsize(shard) // 2)
            f.write(b"\xff" * 8)
        job = self.start("run", "data.train=" + bad, "data.shuffle=false", "data.prefetch=1", ranks=4)
        out, errors = job.communicate(timeout=120)
        self.assertEqual(job.returncode, 65, out + errors)
        self.says(subprocess.CompletedProcess([], 65, out, errors), "shard-00000", "rank")


class Modes(RunTest):
    def test_every_network_learns(self):
        """A few steps on the same images lower the loss; every layout of blocks, both stems, both shortcuts, every backward."""
        cases = [["model.arch=resnet18"], ["model.arch=sdnet34"], ["model.arch=sdnet50"], ["model.arch=sdnet18-all"],
                 ["model.arch=sdnet50-all"], ["model.arch=sdnet18-all", "model.shortcut=false"],
                 ["model.arch=sdnet18-all", "model.stem=imagenet", "data.image_size=33"],
                 ["model.arch=sdnet18", "model.stem=imagenet", "data.image_size=40"],
                 ["model.arch=sdnet18-all", "csc.backward=one-step"],
                 ["model.arch=sdnet18-all", "csc.backward=implicit", "csc.steps=4", "csc.mu=0.1"],
                 ["model.arch=sdnet18-all", "csc.nonnegative=false", "csc.steps=3"],
                 ["model.arch=resnet18", "model.layers=[layer1.0.conv1, layer2.1.conv2]"]]
        for case in cases:
            with self.subTest(case):
                self.train(self.config("run"), *case, "train.steps=16", "train.batch=160", "train.micro_batch=80",
                           "train.lr=0.02", "data.val=none", "data.augment=none", "data.shuffle=false")
                loss = self.losses("run")  # of the same images at every step
                self.assertLess(min(loss.values()), 0.99 * loss[1], case)  # the deepest ones bounce at first


if __name__ == "__main__":
    runs.main()
