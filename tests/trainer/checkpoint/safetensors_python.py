"""Python's safetensors reads what test-safetensors writes, and the other way round; exit 77 without the module."""
import os
import subprocess
import sys
import tempfile

try:
    import numpy
    import safetensors.numpy
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

program = sys.argv[1]
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "ours.safetensors")
    subprocess.run([program, "--write", path], check=True)
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata() == {"format": "pt"}, file.metadata()
        names = set(file.keys())
        # numpy has no bfloat16, so that one is only looked up, and not written below
        ours = {name: file.get_tensor(name) for name in names - {"halves"}}
        assert file.get_slice("halves").get_shape() == [1, 5]
    assert names == {"layer0.0.dn.weight", "bytes", "eta", "empty", "counts", "halves"}, names
    expected = {
        "layer0.0.dn.weight": numpy.array([[1, -2.5, 3e-38], [0, 1e30, -0.0]], numpy.float32),
        "bytes": numpy.array([0, 127, 255], numpy.uint8),
        "eta": numpy.array(0.1, numpy.float64),
        "empty": numpy.zeros((4, 0, 9), numpy.float32),
        "counts": numpy.array([-1, 2**63 - 1], numpy.int64),
    }
    for name, array in expected.items():
        assert ours[name].dtype == array.dtype and ours[name].shape == array.shape, name
        assert ours[name].tobytes() == array.tobytes(), name

    path = os.path.join(folder, "theirs.safetensors")
    safetensors.numpy.save_file(expected, path, {"format": "pt"})
    subprocess.run([program, "--read", path], check=True)
print("safetensors: both ways")
