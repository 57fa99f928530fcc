"""An older csc-train could write the optimizer state in parts. checkpoint_in_parts.tar.xz holds such a run, of 4 ranks and stopped
at step 4 of 8, and its data: it resumes and is evaluated as if the state were one file."""
import json
import os
import struct
import subprocess
import sys
import tarfile
import unittest

import runs
from runs import EVAL, RunTest, mpirun

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "scripts"))
import csz  # noqa: E402

PARTS = [f"optimizer-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
LOSSES = {5: 1.33836293, 6: 1.56235659, 7: 1.44106603, 8: 1.38939202}  # of the program that wrote it
EVALUATED = {4: 1.38801268, 8: 1.38817829}  # losses on data/val with the averages, which lie in the parts


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


class Parts(RunTest):
    def unpacked(self, name):
        with tarfile.open(os.path.join(HERE, "checkpoint_in_parts.tar.xz")) as archive:
            archive.extractall(self.path(name))
        return os.path.join(self.path(name), "run", "checkpoints", "step-00000004")

    def join(self, folder):
        """Replaces the parts by one file."""
        header, body = {}, b""
        for name in PARTS:
            data = read(os.path.join(folder, name))
            size = struct.unpack_from("<Q", data)[0]
            for tensor, entry in json.loads(data[8:8 + size]).items():
                if tensor != "__metadata__":
                    entry["data_offsets"] = [len(body) + at for at in entry["data_offsets"]]
                header[tensor] = entry
            body += data[8 + size:]
            os.remove(os.path.join(folder, name))
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        whole = struct.pack("<Q", len(text)) + text + body
        write(os.path.join(folder, "optimizer.safetensors"), whole)
        lines = read(os.path.join(folder, "MANIFEST")).decode().splitlines(True)
        self.assertEqual([line.split()[2] for line in lines[2:5]], PARTS)
        lines[2:5] = [f"{csz.xxh64(whole):016x} {len(whole)} optimizer.safetensors\n"]
        text = "".join(lines[:-1]).encode()
        write(os.path.join(folder, "MANIFEST"), text + f"{csz.xxh64(text):016x} MANIFEST\n".encode())

    def resume(self, name, ranks=1, code=0):
        command = self.command(os.path.join("run", "config.yaml"), "--resume=auto", ranks=ranks)
        done = subprocess.run(command, cwd=self.path(name), capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def evaluated(self, name, step):
        out = self.path(name, f"eval-{step}.json")
        subprocess.run([EVAL, f"run/checkpoints/step-0000000{step}", "--json", out, "--threads", "1", "--data", "data/val"],
                       cwd=self.path(name), check=True, stdout=subprocess.DEVNULL, timeout=120)
        result = json.loads(read(out))
        self.assertTrue(result["averaged_weights"])
        return {key: result[key] for key in ("images", "top1", "loss", "confusion", "layers")}

    def assert_near(self, got, wanted):
        """Equal but for the rounding of another processor."""
        self.assertLess(abs(got - wanted), 1e-4 * wanted, f"{got}, not {wanted}")

    def test_same_bits(self):
        self.join(self.unpacked("whole"))
        self.resume("whole")
        for ranks in (1, 2, 4) if mpirun() else (1,):
            name = f"parts{ranks}"
            self.unpacked(name)
            self.resume(name, ranks)
            for file in ("model.safetensors", "optimizer.safetensors"):
                self.assert_same_file(self.checkpoint(name + "/run", 8, file), self.checkpoint("whole/run", 8, file))
            losses = self.losses(name + "/run")
            self.assertEqual(losses, self.losses("whole/run"))
            for step, loss in LOSSES.items():
                self.assert_near(losses[step], loss)
        for step, loss in EVALUATED.items():
            result = self.evaluated("parts1", step)
            self.assertEqual(result, self.evaluated("whole", step))
            self.assert_near(result["loss"], loss)

    def test_damaged_and_missing(self):
        """A changed byte in a part, a short part and a missing one."""
        for i, part in enumerate(PARTS):
            path = os.path.join(self.unpacked(f"damaged{i}"), part)
            data = read(path)
            if i == 2:
                os.remove(path)
            else:
                write(path, data[:-1] + (b"" if i else bytes([data[-1] ^ 4])))
            self.assertIn(part + ": ", self.resume(f"damaged{i}", code=65).stderr)
            self.train("--list-checkpoints", self.path(f"damaged{i}", "run"), code=65)


if __name__ == "__main__":
    runs.main()
