#!/usr/bin/env python3
"""test_archives.py CSC_PACK: what is listed and read, or refused, of image folders and archives as people have them:
classes given by name, labels by the files' order, gzip's checksums, names, members that are no files, how archives
end."""
import gzip
import os
import random
import shutil
import sys
import tarfile
import tempfile
import zlib

sys.path.insert(0, f"{os.path.dirname(os.path.abspath(__file__))}/..")
import pack_images as made
from pack_images import check, png, read_dataset, run, snapshot, tar_of, write

PACK = sys.argv[1]
rng = random.Random(7)


def image(width=6, height=4):
    return png(width, height, made.noise(rng, width, height))


def folder_of(path, classes, images=2):
    for name in classes:
        for i in range(images):
            write(f"{path}/{name}/{i}.png", image())
    return path


def tar_folder(path, out, arguments=()):
    with tarfile.open(out, "w", format=tarfile.GNU_FORMAT) as tar:
        for at, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                tar.add(f"{at}/{name}", os.path.relpath(f"{at}/{name}", path))
    return out


def test_given_classes(folder):
    """--classes gives names and order, for folders and archives; classes without images keep their labels."""
    held = folder_of(f"{folder}/held", ("bee", "cat"))
    train = folder_of(f"{folder}/train", ("ant", "bee", "cat"))
    os.makedirs(f"{held}/ant")  # empty, and yet a class
    run(PACK, "imagefolder", train, f"{folder}/o-train")
    run(PACK, "imagefolder", held, f"{folder}/o-held", expect=65, says="class folder 'ant' is empty.*--classes")
    write(f"{folder}/list", b"\xef\xbb\xbfant\r\nbee\r\n\r\ncat\r\n")
    with tarfile.open(f"{folder}/held.tar.gz", "w:gz") as tar:
        tar.add(held, ".")
    for number, (source, classes) in enumerate(((held, f"{folder}/o-train"), (held, f"{folder}/list"),
                                                (f"{folder}/held.tar.gz", f"{folder}/list"))):
        out = f"{folder}/o-{number}"
        run(PACK, "imagefolder", source, out, "--classes", classes, says="4 images of 3 classes")
        index, samples = read_dataset(out)
        check(index["classes"] == ["ant", "bee", "cat"] and index["counts"] == [0, 2, 2], index["classes"])
        check([s[0] for s in samples] == [1, 1, 2, 2], [s[0] for s in samples])
    write(f"{folder}/list", b"cat\nzebra\nbee\n")
    run(PACK, "imagefolder", held, f"{folder}/o-order", "--classes", f"{folder}/list")
    index, samples = read_dataset(f"{folder}/o-order")
    check(index["classes"] == ["cat", "zebra", "bee"] and [s[0] for s in samples] == [0, 0, 2, 2], index["classes"])
    wrong = {b"ant\nbee\n": "class 'cat' is none of the 2", b"bee\nbee\n": "class 'bee' twice",
             b"\n\n": "0 class names", b"a\0b\n": "not a text file",
             b"caf\xe9\n": "cannot be the name", b"x" * 300: "cannot be the name"}
    for text, says in wrong.items():
        write(f"{folder}/list", text)
        run(PACK, "imagefolder", held, f"{folder}/never", "--classes", f"{folder}/list", says=says,
            expect=2 if b"ant" in text else 65)
    run(PACK, "imagefolder", held, f"{folder}/never", "--classes", f"{folder}/absent", expect=74, says="No such file")
    run(PACK, "imagefolder", held, f"{folder}/never", "--classes", folder, expect=74, says="no index.json")
    check(not os.path.exists(f"{folder}/never"), "a wrong list of classes left something")
    run(PACK, "imagefolder", held, f"{folder}/part1", "--part", "1/1", "--classes", f"{folder}/o-train")
    run(PACK, "merge", f"{folder}/part1", f"{folder}/o-merged")
    check(snapshot(f"{folder}/o-merged") == snapshot(f"{folder}/o-0"), "the merged part has other classes")


def test_given_imagenet(folder):
    inner = {c: tar_of([("0.JPEG", image()), ("1.JPEG", image())]) for c in ("n1", "n3")}
    write(f"{folder}/train.tar", tar_of([(f"{c}.tar", data) for c, data in inner.items()]))
    write(f"{folder}/val.tar", tar_of([("a.JPEG", image()), ("b.JPEG", image())]))
    write(f"{folder}/list", b"n3\nn2\nn1\n")
    write(f"{folder}/labels", b"n2\nn1\n")
    pack = ("imagenet", f"{folder}/train.tar", f"{folder}/val.tar", f"{folder}/labels", f"{folder}/o-net")
    run(PACK, *pack, expect=65, says="'n2', which the training images do not have")
    run(PACK, *pack, "--classes", f"{folder}/list")
    for part, labels in (("train", [0, 0, 2, 2]), ("val", [1, 2])):
        index, samples = read_dataset(f"{folder}/o-net/{part}")
        check(index["classes"] == ["n3", "n2", "n1"] and [s[0] for s in samples] == labels, part, index["classes"])
    write(f"{folder}/list", b"n1\nn2\n")
    run(PACK, *pack[:-1], f"{folder}/never", "--classes", f"{folder}/list", expect=2, says="'n3' is none of the 2")


def test_label_order(folder):
    """Lines of labels belong to the images in the order of their file names, whatever folders these lie in."""
    classes = ("n1", "n2", "n3")
    write(f"{folder}/t.tar", tar_of([(f"{c}.tar", tar_of([("0.JPEG", image())])) for c in classes]))
    held = [(f"val_{i}.JPEG", classes[i * 2 % 3], image()) for i in range(6)]
    write(f"{folder}/by-place", "".join(f"{c}\n" for _, c, _ in held).encode())
    write(f"{folder}/by-name", "".join(f'"val/{n}","{c} 1 2 3 4"\n' for n, c, _ in reversed(held)).encode())
    sets = []
    for tar, members in (("flat", [(n, d) for n, _, d in held]),
                         ("folders", [(f"val/{c}//{n}", d) for n, c, d in held]),
                         ("beside", [(n, d) for n, _, d in held] + [("LABELS.csv", b"x"), ("val.txt", b"y")])):
        write(f"{folder}/{tar}.tar", tar_of(members))
        for labels in "by-place", "by-name":
            out = f"{folder}/o-{tar}-{labels}"
            run(PACK, "imagenet", f"{folder}/t.tar", f"{folder}/{tar}.tar", f"{folder}/{labels}", out)
            sets.append(read_dataset(f"{out}/val")[1])
    check([s[0] for s in sets[0]] == [classes.index(c) for _, c, _ in held], "labels", [s[0] for s in sets[0]])
    check(all(s == sets[0] for s in sets), "folders, or the form of the label file, change the labels")
    pack = ("imagenet", f"{folder}/t.tar", f"{folder}/folders.tar")
    write(f"{folder}/wrong", "".join(f"{c}\n" for _, c, _ in held[::-1]).encode())
    run(PACK, *pack, f"{folder}/wrong", f"{folder}/never", expect=65, says="lies in the folder of")
    write(f"{folder}/twice.tar", tar_of([("a/x.JPEG", image()), ("b/x.JPEG", image())]))
    write(f"{folder}/two", b"n1\nn2\n")
    run(PACK, "imagenet", f"{folder}/t.tar", f"{folder}/twice.tar", f"{folder}/two", f"{folder}/never", expect=65,
        says="holds x.JPEG twice, as a/x.JPEG and b/x.JPEG")


def same_or_refused(folder, data, sound, arguments, expected):
    """Packs changed bytes: the result must be the dataset of the unchanged ones, or a refusal if gzip refuses them."""
    write(f"{folder}/changed.tar.gz", data)
    shutil.rmtree(f"{folder}/o-changed", ignore_errors=True)
    result = made.subprocess.run([PACK, arguments, f"{folder}/changed.tar.gz", f"{folder}/o-changed"], text=True,
                                 stderr=made.subprocess.PIPE, stdout=made.subprocess.DEVNULL)
    if sound:
        check(result.returncode == 0 and snapshot(f"{folder}/o-changed") == expected, "a sound archive", result)
    else:
        check(result.returncode == 65 and result.stderr.count(": error: ") == 1, "a damaged archive", result)
        check(not any(n.endswith("index.json") for n in snapshot(f"{folder}/o-changed")), "an index was written")


def gzip_passes(data):
    try:
        return bool(gzip.decompress(data)) or True
    except (OSError, EOFError, zlib.error, ValueError):
        return False


def gzip_cases(whole, tar):
    """Changed archives: single bits, cut ends, several members, zeros or other bytes after the end."""
    for _ in range(40):
        flipped = bytearray(whole)
        flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        yield bytes(flipped)
    yield from (whole[:-1], whole[:-8], whole[:-9], whole[:len(whole) // 2])
    at = len(tar) // 3
    two = gzip.compress(tar[:at]) + gzip.compress(tar[at:])
    yield two
    yield two[:-5] + bytes([two[-5] ^ 1]) + two[-4:]
    middle = len(gzip.compress(tar[:at])) - 6
    yield two[:middle] + bytes([two[middle] ^ 4]) + two[middle + 1:]
    yield whole + bytes(700)
    yield whole + b"more"
    late = bytearray(gzip.compress(tar + bytes(3 << 20), 0))  # many bytes after the tar's end
    yield bytes(late)
    late[-9 - (1 << 20)] ^= 1
    yield bytes(late)


def test_gzip(folder):
    """Whatever is changed in a .tar.gz, csc-pack accepts it if gzip does, for folders and for CIFAR."""
    source = folder_of(f"{folder}/zipped", ("a", "b"), 5)
    cifar = bytes(made.random.Random(3).randbytes(40 * 3073))
    records = bytes(b % 10 if i % 3073 == 0 else b for i, b in enumerate(cifar))
    tars = {"imagefolder": open(tar_folder(source, f"{folder}/z.tar"), "rb").read(),
            "cifar10": tar_of([("cifar-10-batches-bin/data_batch_1.bin", records)])}
    passed = refused = 0
    for kind, tar in tars.items():
        whole = gzip.compress(tar, 6)
        write(f"{folder}/whole.tar.gz", whole)
        run(PACK, kind, f"{folder}/whole.tar.gz", f"{folder}/o-{kind}")
        expected = snapshot(f"{folder}/o-{kind}")
        for data in gzip_cases(whole, tar):
            sound = gzip_passes(data)
            passed, refused = passed + sound, refused + (not sound)
            same_or_refused(folder, data, sound, kind, expected)
    check(passed >= 6 and refused >= 60, passed, "passed and", refused, "were refused")
    write(f"{folder}/y.tgz", gzip.compress(tars["imagefolder"])[:-1])
    run(PACK, "imagefolder", f"{folder}/y.tgz", f"{folder}/never", expect=65, says="truncated")
    write(f"{folder}/late.tar.zst", b"")
    if shutil.which("zstd"):  # its checksum comes long after the tar's end
        write(f"{folder}/late.tar", tars["imagefolder"] + bytes(4 << 20))
        made.subprocess.run(["zstd", "-qf", "--check", f"{folder}/late.tar"], check=True)
        data = bytearray(open(f"{folder}/late.tar.zst", "rb").read())
        data[-2] ^= 1
        write(f"{folder}/late.tar.zst", bytes(data))
        run(PACK, "imagefolder", f"{folder}/late.tar.zst", f"{folder}/never", expect=65, says="late.tar.zst: ")


def test_names(folder):
    """Members are found however their names are written."""
    pictures = {f"{c}/{i}.png": image() for c in ("ant", "bee", "cat", "dog") for i in range(2)}
    odd = {"ant": "good/ant/", "bee": "good//bee/", "cat": "./good/./cat/.//", "dog": "good/ant/../../good/dog/"}
    plain = [(f"good/{n}", data) for n, data in sorted(pictures.items())]
    strange = [(odd[n.split("/")[0]] + n.split("/")[1], data) for n, data in sorted(pictures.items())]
    for kind in tarfile.GNU_FORMAT, tarfile.PAX_FORMAT:
        write(f"{folder}/plain.tar", tar_of(plain, kind))
        write(f"{folder}/strange.tar", tar_of(strange, kind))
        write(f"{folder}/strange.tar.gz", gzip.compress(tar_of(strange, kind)))
        sets = []
        for name, root in (("plain.tar", "good"), ("strange.tar", "good"), ("strange.tar", ".//good/."),
                           ("strange.tar.gz", "good")):
            run(PACK, "imagefolder", f"{folder}/{name}", f"{folder}/o-names", "--root", root, "--force",
                says="8 images of 4 classes")
            sets.append(snapshot(f"{folder}/o-names"))
        check(all(s == sets[0] for s in sets), "other names give another dataset")
    run(PACK, "imagefolder", folder, f"{folder}/never", "--root", "../x", expect=2, says="inside")


def members_of(path, compress):
    """Two classes with a link, a pipe, hard links and text among the images, and one image after them."""
    pixels = [made.noise(rng, 6, 4) for _ in range(4)]
    with tarfile.open(path, "w:gz" if compress else "w", format=tarfile.GNU_FORMAT) as tar:
        made.add(tar, "LABEL", b"", type=b"V")
        for name in "ant", "bee":
            made.add(tar, name, b"", type=tarfile.DIRTYPE, mode=0o755)
        made.add(tar, "README", b"", type=tarfile.SYMTYPE, linkname="elsewhere")
        made.add(tar, "ant/0.png", png(6, 4, pixels[0]))
        made.add(tar, "ant/1.png", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        made.add(tar, "ant/2.png", png(6, 4, pixels[1]))
        made.add(tar, "ant/3.png", b"", type=tarfile.LNKTYPE, linkname="ant/0.png")
        made.add(tar, "ant/notes.txt", b"text")
        made.add(tar, "bee/0.png", b"", type=tarfile.FIFOTYPE)
        made.add(tar, "bee/1.png", png(6, 4, pixels[2]))
        made.add(tar, "bee/link.txt", b"", type=tarfile.SYMTYPE, linkname="x")
        made.add(tar, "bee/2.png", png(6, 4, pixels[3]))
    return [(0, 6, 4, pixels[0]), (0, 6, 4, pixels[1]), (1, 6, 4, pixels[2]), (1, 6, 4, pixels[3])]


def test_members(folder):
    """A member that is named as an image but is not a file is a bad image; one that is not named as an image is left out."""
    for path, compress in (f"{folder}/members.tar", False), (f"{folder}/members.tar.gz", True):
        expected = members_of(path, compress)
        run(PACK, "imagefolder", path, f"{folder}/o-stop", "--force", expect=65, says="ant/1.png is a link.*--bad skip")
        out = f"{folder}/o-{compress}"
        text = run(PACK, "imagefolder", path, out, "--bad", "skip", says="2 files that are not named as images")
        check("3 images left out" in text and "lie outside of the class folders, such as README" in text, text)
        check(read_dataset(out)[1] == expected, path, "other images")
        report = dict(line.split("\t") for line in open(f"{out}/report.tsv").read().splitlines())
        for name in "ant/notes.txt", "bee/link.txt":
            check(report.get(name) == "left out: not named as an image", report)
        check("is a link" in report["ant/3.png"] and "not a regular" in report["bee/0.png"], report)
        check(len(report) == 5, report)
    os.makedirs(f"{folder}/pipes/a")
    write(f"{folder}/pipes/a/1.png", image())
    os.mkfifo(f"{folder}/pipes/a/0.png")
    run(PACK, "imagefolder", f"{folder}/pipes", f"{folder}/o-pipes", expect=65, says="0.png is not a reg", timeout=60)
    run(PACK, "imagefolder", f"{folder}/pipes", f"{folder}/o-pipes", "--bad", "skip", says="1 images of 1", timeout=60)
    run(PACK, "imagefolder", f"{folder}/pipes/a/0.png", f"{folder}/never", expect=74, says="not a regular", timeout=60)
    os.symlink("nowhere", f"{folder}/pipes/b")  # may have been a class
    run(PACK, "imagefolder", f"{folder}/pipes", f"{folder}/never", expect=65, says="pipes/b: a link that leads nowhere")


def test_ends(folder):
    """Warns of an archive without its end mark, or with data after it, and only then."""
    whole = tar_of([("a/0.png", image()), ("b/0.png", image())])
    cases = (("sound", whole, None), ("cut", whole[:1024], "no end-of-archive mark"),
             ("two", whole + tar_of([("c/0.png", image())]), "data after its end-of-archive"), ("one-block", whole[:2560], None))
    for name, data, says in cases:
        for ending, content in ("tar", data), ("tar.gz", gzip.compress(data)):
            write(f"{folder}/{name}.{ending}", content)
            text = run(PACK, "imagefolder", f"{folder}/{name}.{ending}", f"{folder}/o-ends", "--force", says=says)
            check(says or "mark" not in text, name, text)
    write(f"{folder}/z.zip", b"PK\3\4" + bytes(100))
    run(PACK, "imagefolder", f"{folder}/z.zip", f"{folder}/never", expect=65, says="zip archive.*unpack it")


def test_not_images(folder):
    """The report's lines for other files do not depend on interruptions or parts; folders of systems are ignored."""
    source = folder_of(f"{folder}/mixed", ("a", "b", "c"), 60)
    for i in range(25):
        write(f"{source}/{'abc'[i % 3]}/{i}.json", b"{}")
    write(f"{source}/a/@eaDir/0.png/SYNO.png", image())
    write(f"{source}/__MACOSX/a/0.png", image())
    os.makedirs(f"{source}/lost+found")
    run(PACK, "imagefolder", source, f"{folder}/o-mixed", says="180 images of 3 classes")
    lines = open(f"{folder}/o-mixed/report.tsv").read().splitlines()
    check(len(lines) == 25 and all(line.endswith("\tleft out: not named as an image") for line in lines), lines[:3])
    parts = [f"{folder}/o-mixed-{k}" for k in (1, 2, 3)]
    for k, part in enumerate(parts):
        run(PACK, "imagefolder", source, part, "--part", f"{k + 1}/3")
    run(PACK, "merge", *parts, f"{folder}/o-mixed-all", says="25 files that are not named as images left out")
    check(snapshot(f"{folder}/o-mixed-all") == snapshot(f"{folder}/o-mixed"), "parts have another report")
    write(f"{folder}/only/a/0.txt", b"x")
    run(PACK, "imagefolder", f"{folder}/only", f"{folder}/never", expect=65, says="no images in its 1 class folders")


def test_class_folders(folder):
    """Names that a dataset cannot hold, wrong roots and OUT inside DIR are refused before any work, in one line."""
    for name, says in ((b"caf\xe9", r"class 1, 'caf\\xe9'"), (b"b\x01ee", r"'b\\x01ee'"), (b"b\nee", r"'b\\x0aee'"),
                       (b"b\x7fee", r"'b\\x7fee'"), (b"b\xc2\x9bee", r"'b\\xc2\\x9bee'")):
        source = folder_of(f"{folder}/odd-names", ("ant", "bee"))
        os.rename(f"{source}/bee".encode(), source.encode() + b"/" + name)
        run(PACK, "imagefolder", source, f"{folder}/never", expect=65, says=says)
        shutil.rmtree(source.encode())
    folder_of(f"{folder}/roots/train", ("n1", "n2"), 20)
    folder_of(f"{folder}/roots/val", ("images",), 20)
    write(f"{folder}/roots/val/val_annotations.txt", b"0.png n1")
    write(f"{folder}/roots/val/stray.png", image())
    run(PACK, "imagefolder", f"{folder}/roots", f"{folder}/never", expect=65, says="give --root train")
    source = folder_of(f"{folder}/around", ("ant", "bee"))
    for out in (f"{source}/o", source, f"{source}/ant/new/o", f"{folder}/around/../around/o"):
        run(PACK, "imagefolder", source, out, "--force", expect=2, says="inside the folder that is packed")
    os.symlink(source, f"{folder}/link")
    run(PACK, "imagefolder", source, f"{folder}/link/o", expect=2, says="inside the folder that is packed")
    run(PACK, "imagefolder", folder, f"{folder}/beside", "--root", "around", says="4 images of 2 classes")
    check(sorted(snapshot(source)) == ["ant/0.png", "ant/1.png", "bee/0.png", "bee/1.png"] and not
          os.path.exists(f"{folder}/never"), "something was written")


def test_left_out(folder):
    """Warns of a class that loses all its images. A part that loses all its images can be merged."""
    source = folder_of(f"{folder}/lost", ("b",), 200)
    for i in range(150):
        write(f"{source}/a/{i}.png", b"bad")
    run(PACK, "imagefolder", source, f"{folder}/o-lost", "--bad", "skip", says="1 of 2 classes have no image")
    parts = [f"{folder}/o-lost-{k}" for k in (1, 2, 3)]
    for k, part in enumerate(parts):
        for _ in range(2):  # the second time it is complete already
            run(PACK, "imagefolder", source, part, "--bad", "skip", "--part", f"{k + 1}/3")
    check(read_dataset(parts[0])[0]["samples"] == 0, "a part without images")
    run(PACK, "info", parts[0], expect=65, says="without any image")
    run(PACK, "verify", parts[0])
    run(PACK, "merge", *parts, f"{folder}/o-lost-all", says="1 of 2 classes")
    check(snapshot(f"{folder}/o-lost-all") == snapshot(f"{folder}/o-lost"), "merged parts differ")
    with tarfile.open(f"{folder}/unsorted.tgz", "w:gz") as tar:
        for name in "b", "a":
            tar.add(f"{source}/{name}", name)
    run(PACK, "imagefolder", f"{folder}/unsorted.tgz", f"{folder}/never", "--estimate", says="of 350 images")
    check(not os.path.exists(f"{folder}/never"), "an estimate wrote something")


def test_cifar_files(folder):
    record = bytes(3073)
    for name in "data_batch_1", "data_batch_2", "data_batch_4", "data_batch_5":
        write(f"{folder}/batches/{name}.bin", record)
    write(f"{folder}/batches/batches.meta.txt", b"\xef\xbb\xbf" + b"".join(b"n%d\n" % i for i in range(10)))
    run(PACK, "cifar10", f"{folder}/batches", f"{folder}/o-cifar", says="4 of CIFAR-10's 5.*data_batch_3.bin is miss")
    check(read_dataset(f"{folder}/o-cifar/train")[0]["classes"][0] == "n0", "a byte order mark in the first class")
    members = [(f"x/data_batch_{i}.bin", record) for i in (1, 2, 3, 4, 5)]
    write(f"{folder}/five.tar", tar_of(members))
    text = run(PACK, "cifar10", f"{folder}/five.tar", f"{folder}/o-five")
    check("missing" not in text, text)
    for more in "x/data_batch_3.bin", "y/data_batch_3.bin", "x/data_batch_03.bin":
        write(f"{folder}/six.tar", tar_of(members + [(more, record)]))
        run(PACK, "cifar10", f"{folder}/six.tar", f"{folder}/never", expect=65, says="data_batch_0?3.bin twice")
    bad = bytes([10]) + bytes(3072)
    write(f"{folder}/label/data_batch_1.bin", bad)
    text = run(PACK, "cifar10", f"{folder}/label", f"{folder}/o-label", expect=65, says="label 10")
    check("--bad" not in text, "advice that cannot be taken:", text)
    run(PACK, "cifar10", f"{folder}/label", f"{folder}/o-label", "--bad", "skip", expect=2, says="no option --bad")


def main():
    folder = tempfile.mkdtemp(prefix="csc-archives-")
    try:
        for test in (test_given_classes, test_given_imagenet, test_label_order, test_gzip, test_names, test_members,
                     test_ends, test_not_images, test_class_folders, test_left_out, test_cifar_files):
            test(folder)
    finally:
        shutil.rmtree(folder)
    return made.done("archives")


if __name__ == "__main__":
    sys.exit(main())
