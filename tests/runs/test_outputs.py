"""Where results go and what a lost log does: every program's --json into pipes, devices and links, readers that leave, standard
output that is full or closed, signals, and files that may not grow."""
import os
import signal
import subprocess
import time
import unittest

import runs
from runs import EVAL, PACK, TRAIN, RunTest

VIZ = os.path.join(runs.BUILD, "trainer", "csc-viz")
BENCH = os.path.join(runs.BUILD, "trainer", "csc-bench")


class Outputs(RunTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        run = cls.run_path = os.path.join(cls.folder, "trained")
        config = os.path.join(cls.folder, "trained.yaml")
        with open(config, "w") as f:
            f.write(runs.CONFIG.replace("RUN", run).replace("DATA", cls.data))
        subprocess.run([TRAIN, config, "train.steps=2"], check=True, stdout=subprocess.DEVNULL)
        val = cls.val = os.path.join(cls.data, "val")
        cls.results = {  # what has --json, and a word of it
            "top1": [EVAL, run, "--data", val], "pictures": [VIZ, run, "--data", val, "--out", os.path.join(cls.folder, "viz")],
            "arch": [BENCH, "step", "--arch", "resnet18", "--width", "4", "--batch", "2", "--steps", "1"],
            "samples": [PACK, "info", val]}
        cls.printed = [[TRAIN, config, "--print-config"], [TRAIN, config, "--dry-run"], [TRAIN, "--list-checkpoints", run],
                       [PACK, "info", val], [PACK, "verify", val], [PACK, "bench", val], [EVAL, run, "--data", val],
                       *([p, o] for p in (TRAIN, PACK, EVAL, VIZ, BENCH) for o in ("--help", "--version"))]

    def ends(self, command, code, **options):
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=100, **options)
        self.assertEqual(done.returncode, code, f"{command} {done.stderr}")
        return done.stderr

    def test_json_keeps_what_is_no_regular_file(self):
        link, target, pipe = self.path("link"), self.path("target"), self.path("pipe")
        os.symlink("target", link)
        os.mkfifo(pipe)
        for word, command in self.results.items():
            self.ends([*command, "--json", link], 0, stdout=subprocess.DEVNULL)
            self.assertTrue(os.path.islink(link))
            with open(target) as f:
                self.assertIn(f'"{word}"', f.read())
            os.remove(target)
            with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True) as reader:
                self.ends([*command, "--json", pipe], 0, stdout=subprocess.DEVNULL)
                self.assertIn(f'"{word}"', reader.stdout.read())
            before = os.stat("/dev/full")
            self.assertIn("No space left", self.ends([*command, "--json", "/dev/full"], 74, stdout=subprocess.DEVNULL))
            self.assertEqual(os.stat("/dev/full").st_ino, before.st_ino)

    def test_logits_into_a_device(self):
        self.ends([EVAL, self.run_path, "--data", self.val, "--logits", "/dev/null"], 0, stdout=subprocess.DEVNULL)

    def test_json_to_the_shells_file(self):
        """/dev/stdout and /dev/fd/N are this process's own: what the shell's file holds stays."""
        for name in ("/dev/stdout", "/dev/fd/1", "-"):
            with open(self.path("all"), "w+") as f:
                f.write("before\n")
                f.flush()
                self.ends([PACK, "info", self.val, "--json", name], 0, stdout=f)
                f.seek(0)
                text = f.read()
            self.assertTrue(text.startswith("before\n") and '"samples"' in text, text)

    def test_results_that_cannot_be_written(self):
        with open("/dev/full", "w") as full:
            for command in self.printed + [[*c, "--json", "-"] for c in self.results.values()]:
                errors = self.ends(command, 74, stdout=full).splitlines()
                self.assertEqual(len([e for e in errors if "standard output" in e or "-: " in e]), len(errors), errors)
                self.assertEqual(len(errors), 1, errors)

    def test_a_closed_output_is_no_other_file(self):
        """Its number is not taken by the next file that is opened, such as metrics.jsonl or a shard."""
        out = self.path("closed")
        self.ends(["sh", "-c", f"exec {PACK} synth {out} --images 20 --size 8 >&-"], 0)
        self.ends([PACK, "verify", os.path.join(out, "train")], 0, stdout=subprocess.DEVNULL)
        self.ends(["sh", "-c", f"exec {PACK} info {out}/train >&-"], 74)
        config = self.config("quiet")
        self.ends(["sh", "-c", f"exec {TRAIN} {config} train.steps=2 >&- 2>&-"], 0)
        self.assertEqual(len(self.losses("quiet")), 2)

    def test_a_lost_log_ends_no_run(self):
        """If the log's reader goes away, its disk is full or its size is limited, the run continues and says so once."""
        for name, redirect in (("reader", "| head -1 >/dev/null"), ("disk", ">/dev/full"), ("limit", f">>{self.path('log')}")):
            config = self.config(name)
            front = f"head -c 1048576 /dev/zero >{self.path('log')}; ulimit -f 1024;" if name == "limit" else ""
            script = f"{front} {{ {TRAIN} {config} checkpoint.every_epochs=0; echo $? >{self.path('code')}; }} {redirect}"
            errors = subprocess.run(["bash", "-c", script], stderr=subprocess.PIPE, text=True, timeout=100).stderr
            with open(self.path("code")) as f:
                self.assertEqual(f.read().strip(), "0", errors)
            self.assertEqual(errors.count("lines are lost"), 1, errors)
            self.assertTrue(os.path.isdir(self.checkpoint(name, 12, "")))

    def test_signals_ask_for_a_checkpoint(self):
        for number in (signal.SIGUSR2, signal.SIGXCPU, signal.SIGHUP):  # whoever started the tests may ignore them
            signal.signal(number, signal.SIG_DFL)
        long = ["train.steps=1000000", "eval.every_epochs=0", "checkpoint.every_epochs=0"]
        for name in ("SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGHUP", "SIGTERM", "SIGINT"):
            job = self.start("signal", *long)
            self.addCleanup(job.kill)
            self.wait_for_step(job, "signal", 1)
            job.send_signal(getattr(signal, name))
            if name == "SIGINT":
                job.send_signal(signal.SIGINT)
            out, errors = job.communicate(timeout=60)
            self.assertEqual(job.returncode, 75, out + errors)
            self.assertIn(f"({name})", out)
        config = self.config("nohup")
        job = subprocess.Popen(["nohup", TRAIN, config, *long], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.wait_for_step(job, "nohup", 1)
        job.send_signal(signal.SIGHUP)
        self.wait_for_step(job, "nohup", self.last_step("nohup") + 20)
        job.send_signal(signal.SIGUSR2)
        job.communicate(timeout=60)
        self.assertEqual(job.returncode, 75)

    def test_lines_on_a_full_disk_are_told_of_once(self):
        """metrics.jsonl may not grow, whatever else succeeds in between."""
        config = self.config("full")
        os.makedirs(self.path("full"))
        os.symlink("/dev/full", self.path("full", "metrics.jsonl"))
        self.assertIn("not a regular file", self.ends([TRAIN, config], 74, stdout=subprocess.DEVNULL))
        os.remove(self.path("full", "metrics.jsonl"))
        with open(self.path("full", "metrics.jsonl"), "w") as f:
            f.write("\n" * ((1 << 21) - 2000))
        errors = self.ends(["sh", "-c", f"ulimit -f {(1 << 21) // 512}; exec {TRAIN} {config} train.steps=40"], 0,
                           stdout=subprocess.DEVNULL)
        self.assertEqual(errors.count("lines are lost"), 1, errors)

    def test_a_run_that_is_moved_while_it_trains(self):
        job = self.start("here", "train.steps=1000000", "eval.every_epochs=0", "checkpoint.every_epochs=0")
        self.wait_for_step(job, "here", 2)
        os.rename(self.path("here"), self.path("there"))
        time.sleep(0.3)
        job.send_signal(signal.SIGUSR1)
        out, errors = job.communicate(timeout=60)
        self.assertEqual(job.returncode, 75, out + errors)
        self.assertEqual(errors.count("was moved to " + self.path("there")), 1, errors)


if __name__ == "__main__":
    runs.main()
