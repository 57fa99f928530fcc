#!/usr/bin/env python3
"""test_imagenet.py CSC_PACK: archives built like ImageNet's own - tars in a tar, the validation tar with its label file
in every form - packed without unpacking; odd and unreadable images; archives and label files that are wrong."""
import os
import random
import shutil
import sys
import tarfile
import tempfile

sys.path.insert(0, f"{os.path.dirname(os.path.abspath(__file__))}/..")
import pack_images as made
from pack_images import JPEG, check, png, read_dataset, run, snapshot, tar_of, write

PACK = sys.argv[1]


def test_whole(folder):
    train, held = made.imagenet(f"{folder}/in", 5, 9, 17, size=20)
    out = f"{folder}/out"
    run(PACK, "imagenet", f"{folder}/in/train.tar", f"{folder}/in/val.tar", f"{folder}/in/labels.txt", out, "--workers", "3",
        says="45 images of 5 classes")
    index, samples = read_dataset(f"{out}/train")
    names = sorted(train)
    expected = [(label, 20, 20, pixels) for label, name in enumerate(names) for _, pixels in sorted(train[name])]
    check(index["classes"] == names and samples == expected, "the training set differs")
    index, samples = read_dataset(f"{out}/val")
    check(index["classes"] == names, "the classes of the validation set differ")
    check(samples == [(names.index(c), 20, 20, pixels) for _, c, pixels in held], "the validation set differs")
    check(sorted(snapshot(out)) == ["train/index.json", "train/report.tsv", "train/shard-00000.csz", "val/index.json",
                                    "val/report.tsv", "val/shard-00000.csz"], sorted(snapshot(out)))
    report = open(f"{out}/train/report.tsv").read().splitlines()
    check(len(report) == 45 and report[0].endswith("\tconverted: named as another format than it is"), report[:1])
    run(PACK, "verify", f"{out}/train", "--deep")
    run(PACK, "imagenet", f"{folder}/in/train.tar", f"{folder}/only", says="45 images")
    check(snapshot(f"{folder}/only") == {n: d for n, d in snapshot(out).items() if n.startswith("train")}, "train alone differs")
    return held, names


def test_labels(folder, held, names):
    """Every form of the label file gives the same bytes."""
    source = f"{folder}/in"
    expected = snapshot(f"{folder}/out/val")
    order = held[:]
    random.Random(5).shuffle(order)
    numbers = {name: 10 * (i * 3 % 5) + 1 for i, name in enumerate(names)}
    forms = {
        "names": "".join(f"{n} {c}\n" for n, c, _ in order),
        "kaggle": "ImageId,PredictionString\n" + "".join(f"{n[:-5]},{c} 1 2 3 4 {c} 5 6 7 8 \n" for n, c, _ in order),
        "tabs": "\n" + "".join(f"{n}\t{c}\r\n" for n, c, _ in order),
        "numbers": "".join(f"{numbers[c]}\n" for _, c, _ in held),
    }
    write(f"{source}/map", "".join(f"{c} {n} some_words\n" for c, n in numbers.items()).encode())
    write(f"{source}/map2", "".join(f"{n} {c}\n" for c, n in numbers.items()).encode())
    for form, text in forms.items():
        write(f"{source}/labels-{form}", text.encode())
        for synsets in ("map", "map2") if form == "numbers" else (None,):
            out = f"{folder}/out-{form}-{synsets}"
            run(PACK, "imagenet", f"{source}/train.tar", f"{source}/val.tar", f"{source}/labels-{form}", out,
                *(["--synsets", f"{source}/{synsets}"] if synsets else []))
            check(snapshot(f"{out}/val") == expected, form, "gives another dataset")
            shutil.rmtree(out)
    wrong = {
        "": "holds no labels", "n1\0n2\n": "not a text file", "n00000009\n" * 17: "'n00000009', which the training images",
        "".join(f"{c}\n" for _, c, _ in held[1:]): "has no label for ILSVRC2012_val_00000017",
        "".join(f"{c}\n" for _, c, _ in held + held[:1]): "18 labels for 17 images",
        forms["names"] + held[0][1] + "\n": "one word, unlike",
        forms["names"] + f"{held[3][0]} {held[3][1]}\n": "has image 'ILSVRC2012_val_00000004' twice",
        "".join(f"{n} {c}\n" for n, c, _ in held[2:]): "has no label for ILSVRC2012_val_00000001",
        forms["numbers"]: "--synsets", "x" * 300 + "\n": "word has more than 255",
    }
    for text, says in wrong.items():
        write(f"{source}/wrong", text.encode())
        run(PACK, "imagenet", f"{source}/train.tar", f"{source}/val.tar", f"{source}/wrong", f"{folder}/never", expect=65, says=says)
    for text, says in (("1 n1\n1 n2\n", "second time"), ("a b\n", "not an id and a class name"), ("1 n1\n", "does not have")):
        write(f"{source}/wrong-map", text.encode())
        run(PACK, "imagenet", f"{source}/train.tar", f"{source}/val.tar", f"{source}/labels-numbers", f"{folder}/never",
            "--synsets", f"{source}/wrong-map", expect=65, says=says)
    check(not os.path.exists(f"{folder}/never"), "a wrong label file left something")
    run(PACK, "imagenet", f"{source}/train.tar", f"{source}/val.tar", f"{folder}/never", expect=2, says="needs its label file")


def test_odd(folder):
    """Images that are not 8-bit RGB are converted and reported by name; unreadable ones stop packing or are left out."""
    rgb = made.noise(random.Random(2), 6, 4)
    images = {
        "a.JPEG": JPEG["rgb"], "b.JPEG": JPEG["grey"], "c.JPEG": JPEG["cmyk"], "d.JPEG": made.TURNED,
        "e.JPEG": png(6, 4, rgb), "f.png": png(6, 4, bytes(range(24)), colour=0),
        "g.png": png(6, 4, bytes(range(48)), depth=16, colour=0), "h.png": png(6, 4, rgb + rgb, depth=16),
        "bad\x1b[31m.JPEG": JPEG["rgb"][:200], "empty.JPEG": b"", "text.JPEG": b"hello",
        "huge.png": png(65500, 65500, b""),
    }
    write(f"{folder}/odd.tar", tar_of([("n1.tar", tar_of(list(images.items()), tarfile.PAX_FORMAT)), ("notes.txt", b"x")]))
    out = f"{folder}/odd"
    text = run(PACK, "imagenet", f"{folder}/odd.tar", out, "--bad", "skip", "--workers", "2", says="8 images of 1 classes")
    check("1 members are not tars" in text and "4 images left out" in text and "\x1b" not in text, text)
    _, samples = read_dataset(f"{out}/train")
    check([s[1:3] for s in samples] == [(24, 16)] * 4 + [(6, 4)] * 4, "sizes", [s[1:3] for s in samples])
    check(samples[3][3] == samples[0][3], "the turned image was turned")
    check(samples[4][3] == rgb, "the PNG named JPEG")
    check(all(len(set(samples[i][3][j:j + 3])) == 1 for i in (1, 5, 6) for j in range(0, 72, 3)), "grey is not grey")
    check(samples[7][3] == (rgb + rgb)[::2], "16-bit colour is not its high bytes")
    report = dict(line.split("\t") for line in open(f"{out}/train/report.tsv").read().splitlines())
    expected = {
        "n1/b.JPEG": "converted: grey", "n1/c.JPEG": "converted: CMYK", "n1/d.JPEG": "converted: EXIF rotation not applied",
        "n1/e.JPEG": "converted: named as another format", "n1/f.png": "converted: grey", "n1/g.png": "converted: 16-bit grey",
        "n1/h.png": "converted: 16 bits a channel", "n1/bad?[31m.JPEG": "left out: n1/bad", "n1/empty.JPEG": "left out: .*empty file",
        "n1/text.JPEG": "left out: .*not an image in a known format", "n1/huge.png": "left out: .*65500 x 65500",
    }
    check(set(report) == set(expected), "report", report)
    for name, text in expected.items():
        check(made.re.match(text, report.get(name, "")), name, report.get(name))
    write(f"{folder}/same.tar", tar_of([("n1.tar", tar_of(list(images.items()), tarfile.PAX_FORMAT))]))
    run(PACK, "imagenet", f"{folder}/same.tar", f"{folder}/odd-stop", expect=65, says=r"bad\?.*--bad skip leaves")
    run(PACK, "imagenet", f"{folder}/odd.tar", f"{folder}/odd-stop", "--bad", "skip", says="8 images")
    check(snapshot(f"{folder}/odd-stop") == snapshot(out), "stopped, then skipping: another dataset")


def test_jpeg(folder):
    """The jpeg codec stores every file as it is, unless the image is shrunk."""
    images = {"a.JPEG": JPEG["rgb"], "b.JPEG": JPEG["grey"], "c.JPEG": JPEG["cmyk"],
              "d.JPEG": png(6, 4, made.noise(random.Random(2), 6, 4))}
    write(f"{folder}/keep.tar", tar_of([("n1.tar", tar_of(list(images.items())))]))
    run(PACK, "imagenet", f"{folder}/keep.tar", f"{folder}/keep", "--codec", "jpeg")
    index, samples = read_dataset(f"{folder}/keep/train")
    check(index["codec"] == "jpeg" and [s[3] for s in samples] == list(images.values()), "files are not as they were")
    check([s[1:3] for s in samples] == [(24, 16)] * 3 + [(6, 4)], "sizes")
    check("kept: CMYK" in open(f"{folder}/keep/train/report.tsv").read(), "the report of kept files")
    run(PACK, "verify", f"{folder}/keep/train", "--deep")
    run(PACK, "imagenet", f"{folder}/keep.tar", f"{folder}/small", "--codec", "jpeg", "--resize", "short:8")
    _, samples = read_dataset(f"{folder}/small/train")
    check([s[1:3] for s in samples] == [(12, 8)] * 3 + [(6, 4)] and samples[3][3] == images["d.JPEG"], "resized")
    check(all(s[3][:3] == b"\xff\xd8\xff" for s in samples[:3]), "not JPEGs")
    run(PACK, "verify", f"{folder}/small/train", "--deep")


def test_hostile(folder):
    """Wrong archives give one line and the right exit code, and nothing is written outside of the output folder."""
    inner = tar_of([("a.JPEG", JPEG["rgb"])])
    good = tar_of([("n1.tar", inner)])
    cases = {
        "cut": (good[:1300], "truncated"), "flip": (good[:100] + b"\x7f" + good[101:], "not an uncompressed tar"),
        "flat": (inner, "holds no .tar for any class"), "empty": (b"", "not an uncompressed tar"),
        "gzip": (b"\x1f\x8b" + bytes(600), "not an uncompressed tar"), "hollow": (tar_of([("n1.tar", tar_of([]))]), "no images"),
        "inner": (tar_of([("n1.tar", b"x" * 1024)]), "n1.tar: not a tar archive"),
        "twice": (tar_of([("n1.tar", inner), ("n1.tar", inner)]), "holds n1/a.JPEG twice"),
        "control": (tar_of([("n\x1b1.tar", inner)]), "not plain text"),
        "long": (tar_of([("n" * 300 + ".tar", inner)]), "a class name of 300 bytes"),
    }
    for name, (data, says) in cases.items():
        write(f"{folder}/hostile/{name}.tar", data)
        run(PACK, "imagenet", f"{folder}/hostile/{name}.tar", f"{folder}/hostile/out", expect=65, says=says)
    run(PACK, "imagenet", f"{folder}/hostile/absent.tar", f"{folder}/hostile/out", expect=74, says="No such file")
    run(PACK, "imagenet", f"{folder}/hostile", f"{folder}/hostile/out", expect=74, says="not a regular file")
    outside = tar_of([("../../n1.tar", tar_of([("../../../escape.JPEG", JPEG["rgb"]), ("/etc/b.JPEG", JPEG["rgb"])])),
                      ("/n2.tar", inner)])
    write(f"{folder}/hostile/outside.tar", outside)
    before = set(snapshot(folder))
    run(PACK, "imagenet", f"{folder}/hostile/outside.tar", f"{folder}/hostile/inside", says="3 images of 2 classes")
    check(set(snapshot(folder)) - before == {"hostile/inside/train/index.json", "hostile/inside/train/shard-00000.csz"},
          "files elsewhere", set(snapshot(folder)) - before)
    link = made.io.BytesIO()
    with tarfile.open(fileobj=link, mode="w") as tar:
        made.add(tar, "n1/a.JPEG", JPEG["rgb"])
        made.add(tar, "n1/b.JPEG", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    write(f"{folder}/hostile/link.tar", link.getvalue())
    run(PACK, "imagefolder", f"{folder}/hostile/link.tar", f"{folder}/hostile/out", expect=65, says="is a link")


def main():
    folder = tempfile.mkdtemp(prefix="csc-imagenet-")
    try:
        held, names = test_whole(folder)
        test_labels(folder, held, names)
        test_odd(folder)
        test_jpeg(folder)
        test_hostile(folder)
    finally:
        shutil.rmtree(folder)
    return made.done("imagenet")


if __name__ == "__main__":
    sys.exit(main())
