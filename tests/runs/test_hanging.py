"""One rank of four hangs: the watchdog names it and ends the job."""
import ctypes
import os
import re
import signal
import time
import unittest

import runs
from runs import RunTest, mpirun


@unittest.skipUnless(mpirun(), "no mpirun")
class Hanging(RunTest):
    """If one of four ranks stops or is stuck, all end within the timeout and 10 seconds, and one line names it."""
    TIMEOUT = 10

    def begin(self, *extra):
        """Starts a run and waits for some steps. Returns it, the processes of its ranks in order, and the last step in its metrics."""
        job = self.start("run", "train.steps=1000000", "eval.every_epochs=0", "checkpoint.every_epochs=0",
                         f"comm.timeout_s={self.TIMEOUT}", *extra, ranks=4)
        self.wait_for_step(job, "run", 8)
        return job, self.ranks_of(job.pid)

    def thread_name(self, process, thread):
        with open(f"/proc/{process}/task/{thread}/comm") as f:
            return f.read().strip()

    def ended(self, job, start, rank):
        out, errors = job.communicate(timeout=120)
        self.assertLess(time.time() - start, self.TIMEOUT + 30)  # 10 on a machine with nothing else to do
        self.assertEqual(job.returncode, 86, out + errors)
        lines = [l for l in errors.splitlines() if l.startswith("csc-train") and "error: " in l]
        self.assertEqual(len(lines), 1, errors)
        found = re.search(r"error: rank (\d+) on \S+ hangs: .* in step (\d+), ([a-z ]+):", lines[0])
        self.assertTrue(found, lines[0])
        self.assertEqual(int(found[1]), rank, lines[0])
        self.assertIn(int(found[2]) - max(self.losses("run")), (0, 1, 2), lines[0])
        return found[3]

    def stopped(self, rank):
        job, ranks = self.begin()
        os.kill(ranks[rank], signal.SIGSTOP)
        start = time.time()
        self.assertIn(self.ended(job, start, rank), ("loading data", "computing", "exchanging gradients", "updating weights"))

    def test_stopped(self):
        self.stopped(2)

    def test_rank_0_stopped(self):
        self.stopped(0)

    def test_alive_but_stuck(self):
        """The thread that reads the data of rank 1 hangs, as it does when its storage is gone; all else is alive."""
        job, ranks = self.begin("data.prefetch=1")
        thread = next(t for t in os.listdir(f"/proc/{ranks[1]}/task") if self.thread_name(ranks[1], t) == "csc-loader")
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.ptrace(0x4206, int(thread), 0, 0) != 0:  # PTRACE_SEIZE
            job.send_signal(signal.SIGUSR1)
            job.communicate(timeout=60)
            self.skipTest("ptrace is not permitted")
        libc.ptrace(0x4207, int(thread), 0, 0)  # PTRACE_INTERRUPT: this thread stops, and nothing else
        self.assertEqual(self.ended(job, time.time(), 1), "loading data")


if __name__ == "__main__":
    runs.main()
