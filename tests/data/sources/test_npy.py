"""Files that NumPy wrote, as read by data/sources/npy.c. usage: test_npy.py READ_NPY"""
import os
import subprocess
import sys
import tempfile
import unittest

try:
    import numpy as np
except ImportError:
    print("skipped: NumPy is not there")
    sys.exit(77)

PROGRAM = sys.argv.pop(1)


class Npy(unittest.TestCase):
    def read(self, array, cut=0):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "a.npy")
            np.save(path, array)
            if cut:
                os.truncate(path, os.path.getsize(path) + cut)
            return subprocess.run([PROGRAM, path], capture_output=True, text=True, timeout=60)

    def test_types_and_shapes(self):
        for dtype in "u1 i1 <u2 <i2 <u4 <i4 <u8 <i8".split():
            for shape in ((), (0, 3), (5,), (2, 3, 4), (2, 2, 2, 3)):
                count = int(np.prod(shape))
                info = np.iinfo(dtype)
                values = np.linspace(max(info.min, -2 ** 53), min(info.max, 2 ** 53), count).astype(dtype).reshape(shape)
                lines = self.read(values).stdout.splitlines()
                self.assertEqual(lines[0].split(), [str(n) for n in shape])
                self.assertEqual([int(v) for v in lines[1:]], values.ravel().tolist())

    def test_refused(self):
        for bad in (np.zeros(3, "f4"), np.zeros((2, 2), "u1", order="F"), np.zeros(3, ">i4"), np.zeros((1,) * 5, "u1"),
                    np.zeros(2, "U3"), np.zeros(2, [("a", "u1")])):
            done = self.read(bad)
            self.assertEqual(done.returncode, 65, done.stderr)
        for cut in (-1, 1):
            self.assertEqual(self.read(np.zeros(9, "u1"), cut).returncode, 65)
        self.assertEqual(self.read(np.array([2 ** 63], "u8")).returncode, 65)
        self.assertEqual(subprocess.run([PROGRAM, "/nonexistent"], capture_output=True, timeout=60).returncode, 74)


if __name__ == "__main__":
    unittest.main()
