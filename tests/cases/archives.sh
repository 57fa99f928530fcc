# shellcheck shell=bash
# archives.sh - what csc-pack lists and reads: class lists, archives, odd files in class folders. Sourced by run.

case_D1_packer() {
    pics train ant bee cat
    pics val bee cat
    expect 0 "$PACK" imagefolder train o-train
    expect 0 "$PACK" imagefolder val o-val --classes o-train
    says "8 images of 3 classes"
    printf 'ant\nbee\ncat\n' >list
    expect 0 "$PACK" imagefolder val o-val2 --classes list
    cmp o-val/index.json o-val2/index.json
    PYTHONPATH=$ROOT/scripts /usr/bin/python3 -c '
import csz
index, samples = csz.read_dataset("o-val")
assert index["classes"] == ["ant", "bee", "cat"] and [s[0] for s in samples] == [1] * 4 + [2] * 4, index'
    pics val dog
    expect 2 "$PACK" imagefolder val o-val3 --classes o-train
    says "class 'dog' is none of the 3 given"
    mkdir val/fox
    expect 65 "$PACK" imagefolder val o-val3
    says "class folder 'fox' is empty"
    says "--classes"
}

case_D2() {
    pics src n01 n02 n03
    for c in n01 n02 n03; do
        tar -C src/$c -cf $c.tar .
    done
    tar -cf train.tar n01.tar n02.tar n03.tar
    mkdir -p val/n01 val/n02 val/n03
    i=1
    for c in n01 n02 n03 n01 n02 n03; do
        cp src/$c/$((i % 4)).png val/$c/ILSVRC2012_val_0000000$i.JPEG
        echo $c >>labels.txt
        echo "ILSVRC2012_val_0000000$i,$c 1 2 3 4" >>labels.csv
        i=$((i + 1))
    done
    tar -cf val.tar val
    expect 0 "$PACK" imagenet train.tar val.tar labels.txt o
    expect 0 "$PACK" imagenet train.tar val.tar labels.csv o-csv
    cmp o/val/shard-00000.csz o-csv/val/shard-00000.csz
    PYTHONPATH=$ROOT/scripts /usr/bin/python3 -c '
import csz
index, samples = csz.read_dataset("o/val")
assert [index["classes"][s[0]] for s in samples] == ["n01", "n02", "n03"] * 2'
    sed -i '1s/.*/n02/' labels.txt
    expect 65 "$PACK" imagenet train.tar val.tar labels.txt out-wrong
    says "lies in the folder of 'n01'"
}

case_D3() {
    /usr/bin/python3 -c '
import os, random
from PIL import Image
r = random.Random(1)
os.makedirs("d/a")
for i in range(6):
    Image.frombytes("RGB", (16, 12), r.randbytes(576)).resize((160, 120)).save(f"d/a/{i}.jpg", quality=95)'
    tar -C d --sort=name -czf ok.tar.gz a
    expect 0 "$PACK" imagefolder ok.tar.gz o-ok
    cp ok.tar.gz bad.tar.gz
    printf '\x55' | dd of=bad.tar.gz bs=1 seek=11000 conv=notrunc status=none
    expect 1 gzip -t bad.tar.gz
    expect 65 "$PACK" imagefolder bad.tar.gz o-bad
    says "bad.tar.gz: its gzip data are damaged: incorrect data check"
    test ! -e o-bad/index.json
}

case_D4() {
    pics good ant bee cat
    tar -cf x.tar good/ant good//bee good/./cat
    expect 0 "$PACK" imagefolder x.tar o1 --root good
    says "12 images of 3 classes"
    gzip -k x.tar
    expect 0 "$PACK" imagefolder x.tar.gz o2 --root good
    says "12 images of 3 classes"
    cmp o1/index.json o2/index.json
}

case_D7() {
    pics d ant bee
    mv d/bee d/$'caf\xe9'
    expect 65 "$PACK" imagefolder d o
    says "the name of class 1, 'caf\xe9', is empty, too long, or not plain text in UTF-8"
    test ! -e o
    mv d/$'caf\xe9' d/café
    expect 0 "$PACK" imagefolder d o
}

case_D8() {
    pics d ant
    mkfifo d/ant/x.jpg
    expect 65 timeout 20 "$PACK" imagefolder d o
    says "ant/x.jpg is not a regular file"
    expect 0 timeout 20 "$PACK" imagefolder d o --bad skip
    grep -q "^ant/x.jpg	left out: .*not a regular file" o/report.tsv
    expect 74 timeout 20 "$PACK" imagefolder d/ant/x.jpg o2
    says "not a regular file"
    expect 74 timeout 20 "$PACK" cifar10 d/ant/x.jpg o2
    /usr/bin/python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("d/ant/y.jpg")'
    expect 0 timeout 20 "$PACK" imagefolder d o3 --bad skip
    grep -q "^ant/y.jpg	left out: .*not a regular file" o3/report.tsv
    mv o3/shard-00000.csz s
    mkfifo o3/shard-00000.csz
    expect 74 timeout 20 "$PACK" info o3
}

case_D10() {
    pics good ant bee
    tar -V "my data" -C good -cf l.tar ant bee
    expect 0 "$PACK" imagefolder l.tar o1
    gzip -k l.tar
    expect 0 "$PACK" imagefolder l.tar.gz o2
    cmp o1/index.json o2/index.json
    tar -g snap -C good -cf i.tar ant bee
    expect 0 "$PACK" imagefolder i.tar o3
    cmp o1/index.json o3/index.json
    mkdir other
    /usr/bin/python3 -c '
f = open("other/holes.bin", "wb")
for i in range(40):
    f.seek(1 << 20, 1)
    f.write(b"x" * 4096)'
    for format in gnu posix; do
        tar -S --format=$format -cf s.tar other good
        expect 0 "$PACK" imagefolder s.tar o-$format --root good
        cmp o1/shard-00000.csz o-$format/shard-00000.csz
        mkdir -p bad/ant
        cp other/holes.bin bad/ant/holes.png
        tar -S --format=$format -cf b.tar bad
        expect 65 "$PACK" imagefolder b.tar o-bad-$format --root bad
        says "ant/holes.png is a sparse file"
    done
}

case_D11() {
    pics d ant
    expect 0 "$PACK" imagefolder d o --codec jpeg
    expect 0 "$PACK" info o
    says "codec jpeg"
}

case_D13() {
    pics d ant
    mkdir d/dog
    echo RIFFxxxxWEBPVP8 >d/dog/1.webp
    expect 0 "$PACK" imagefolder d o --bad skip
    says "o: 1 of 2 classes have no image, such as 'dog'"
}

case_D14() {
    mkdir s
    head -c 3074 /dev/zero >s/data_batch_1.bin
    expect 65 "$PACK" cifar10 s o
    silent_about "--bad"
    expect 2 "$PACK" cifar10 s o --bad skip
    says "csc-pack cifar10 has no option --bad"
}

case_D15() {
    pics src n01 n02
    for c in n01 n02; do
        tar -C src/$c -cf $c.tar .
    done
    tar -cf train.tar n01.tar n02.tar
    tar -C src/n01 -cf val.tar 0.png 1.png
    printf '\xef\xbb\xbfn01\nn02\n' >l.txt
    expect 0 "$PACK" imagenet train.tar val.tar l.txt o
    printf '1\n2\n' >numbers
    printf '\xef\xbb\xbf1 n01\n2 n02\n' >synsets
    expect 0 "$PACK" imagenet train.tar val.tar numbers o2 --synsets synsets
    cmp o/val/index.json o2/val/index.json
}

case_D16() {
    pics d ant bee
    tar -C d -czf x.tgz bee ant
    expect 0 "$PACK" imagefolder x.tgz o --estimate
    says "from 8 of 8 images"
    test ! -e o
}

case_D17() {
    /usr/bin/python3 -c '
import os
from PIL import Image
os.makedirs("d/a")
os.makedirs("d/b")
for i in range(200):
    open(f"d/a/{i:03d}.png", "w").write("bad")
    Image.new("RGB", (8, 8), (i, 0, 0)).save(f"d/b/{i:03d}.png")'
    expect 0 "$PACK" imagefolder d one --bad skip
    says "1 of 2 classes have no image, such as 'a'"
    for k in 1 2 3; do
        expect 0 "$PACK" imagefolder d p$k --part $k/3 --bad skip
    done
    expect 0 "$PACK" imagefolder d p1 --part 1/3 --bad skip # it is whole already
    expect 65 "$PACK" info p1
    says "without any image"
    expect 0 "$PACK" merge p1 p2 p3 all
    diff -r one all
}

case_D18() {
    pics d ant
    tar -C d -czf x.tgz ant
    head -c -1 x.tgz >y.tgz
    expect 65 "$PACK" imagefolder y.tgz o
    says "y.tgz: truncated"
    silent_about "(null)"
    for method in xz bz2 zst; do
        tar -C d -caf x.tar.$method ant
        head -c -7 x.tar.$method >y.tar.$method
        expect 65 "$PACK" imagefolder y.tar.$method o
        silent_about "(null)"
    done
}

case_D19() {
    pics d ant bee
    mv d/ant d/$'a\x01nt'
    expect 65 "$PACK" imagefolder d o
    says "the name of class 0, 'a\x01nt'"
    mv d/$'a\x01nt' d/ant
    mv d/bee d/$'b\nee'
    expect 65 "$PACK" imagefolder d o
    says "'b\x0aee'"
    test "$(wc -l <out)" = 1
    rm d/b*ee/*
    expect 65 "$PACK" imagefolder d o
    says "class folder 'b?ee' is empty"
    test "$(wc -l <out)" = 1
}

case_D20() {
    pics d ant bee
    expect 2 "$PACK" imagefolder d d/o
    says "d/o: lies inside the folder that is packed"
    expect 2 "$PACK" imagefolder d d/new/below --force
    expect 2 "$PACK" imagefolder d/ant/.. d --force
    expect 0 "$PACK" imagefolder . beside --root d
    expect 2 "$PACK" imagefolder . d/o --root d
    test ! -e d/o
}

case_D21() {
    pics t/train n01 n02
    pics t/val images
    echo "v0.png n01" >t/val/val_annotations.txt
    expect 65 "$PACK" imagefolder t o
    says "give --root train"
    expect 65 "$PACK" imagefolder t o --bad skip
    mv t/train t/Training
    cp t/val/images/0.png t/val # a stray image does not hide it either
    expect 65 "$PACK" imagefolder t o
    says "give --root Training"
}

case_D22() {
    pics src n01
    echo bad >src/n01/x.JPEG
    tar -C src/n01 -cf n01.tar .
    tar -cf train.tar n01.tar
    expect 0 "$PACK" imagenet train.tar o --bad skip
    grep -q "^n01/x.JPEG" o/train/report.tsv
    expect 0 "$PACK" imagenet --help
    says "OUT/train/report.tsv"
    says "OUT/val/report.tsv"
}

case_D24() {
    pics d ant bee cat
    tar -C d --sort=name -cf x.tar ant bee cat
    /usr/bin/python3 -c '
import tarfile
at = [m for m in tarfile.open("x.tar") if m.name == "bee"][0].offset
open("cut.tar", "wb").write(open("x.tar", "rb").read()[:at])'
    expect 0 "$PACK" imagefolder cut.tar o
    says "cut.tar: has no end-of-archive mark"
    gzip -k cut.tar
    expect 0 "$PACK" imagefolder cut.tar.gz o2
    says "cut.tar.gz: has no end-of-archive mark"
    gzip -k x.tar
    expect 0 "$PACK" imagefolder x.tar o3
    silent_about "end-of-archive"
    expect 0 "$PACK" imagefolder x.tar.gz o4
    silent_about "end-of-archive"
    tar -C d -cf ant.tar ant
    tar -C d -cf bee.tar bee
    cat ant.tar bee.tar >both.tar
    expect 0 "$PACK" imagefolder both.tar o5
    says "data after its end-of-archive mark"
    gzip -k both.tar
    expect 0 "$PACK" imagefolder both.tar.gz o6
    says "data after its end-of-archive mark"
    mkdir in
    mv cut.tar in/n1.tar
    tar -C in -cf train.tar n1.tar
    expect 0 "$PACK" imagenet train.tar o7
    says "1 of its tars, such as n1.tar, do not end in an end-of-archive mark"
}

case_D25() {
    [ "$(id -u)" = 0 ] || exit 77
    pics d ant
    (umask 077 && "$PACK" imagefolder d o)
    chmod 755 . # others may pass through here
    expect 74 setpriv --reuid=65534 --regid=65534 --clear-groups "$PACK" info "$PWD/o"
    says "Permission denied"
}

case_D26() {
    mkdir b
    /usr/bin/python3 -c '
for i in (1, 2, 4, 5):
    open(f"b/data_batch_{i}.bin", "wb").write(bytes([i]) + bytes(3072))'
    expect 0 "$PACK" cifar10 b o
    says "holds 4 of CIFAR-10's 5 training files; data_batch_3.bin is missing"
    tar -C b -cf x.tar .
    tar -C b -rf x.tar ./data_batch_1.bin
    expect 65 "$PACK" cifar10 x.tar o2
    says "holds data_batch_1.bin twice"
}

case_D27() {
    pics src n01
    tar -C src/n01 -cf n01.tar .
    tar -cf train.tar n01.tar
    tar -C src/n01 -cf val.tar 0.png
    echo 1 >l.txt
    echo "n01 tench, Tinca tinca" >sw.txt
    expect 65 "$PACK" imagenet train.tar val.tar l.txt o --synsets sw.txt
    says "sw.txt:1: the line is not an id and a class name"
    echo "2 n01" >sw.txt
    expect 65 "$PACK" imagenet train.tar val.tar l.txt o --synsets sw.txt
    says "which sw.txt does not have"
}

# Files that are no images by their names, folders that systems make, links and zip archives.
case_not_images() {
    pics d ant bee
    echo x >d/ant/Thumbs.db
    echo x >d/bee/notes.txt
    echo x >d/README
    mkdir -p d/__MACOSX/ant d/lost+found d/bee/@eaDir/0.png
    cp d/ant/0.png d/bee/@eaDir/0.png/SYNO.png
    expect 0 "$PACK" imagefolder d o
    says "8 images of 2 classes"
    says "2 files that are not named as images, such as ant/Thumbs.db, are left out"
    says "1 files lie outside of the class folders, such as README"
    printf '%s\tleft out: not named as an image\n' ant/Thumbs.db bee/notes.txt | cmp - o/report.tsv
    expect 0 "$PACK" imagefolder d part --part 1/1
    expect 0 "$PACK" merge part merged
    diff -r o merged
    ln -s x d/LINK
    mv d/LINK link
    tar -cf x.tar -C d ant bee -C .. link
    expect 0 "$PACK" imagefolder x.tar o2
    says "8 images of 2 classes"
    for format in BMP GIF TIFF; do
        mkdir -p f-$format/a
        /usr/bin/python3 -c '
import sys
from PIL import Image
Image.new("RGB", (4, 4)).save(sys.argv[2], sys.argv[1])' $format f-$format/a/x.jpg
        expect 65 "$PACK" imagefolder f-$format o3
        says "$format"
    done
    /usr/bin/python3 -c '
import zipfile
zipfile.ZipFile("x.zip", "w").writestr("a/0.png", b"x")'
    expect 65 "$PACK" imagefolder x.zip o4
    says "x.zip: a zip archive, which is not read here; unpack it"
    expect 0 "$PACK" synth s --images 40 --classes 2 --size 8
    expect 74 "$PACK" info s
    says "its folders train and val may be datasets"
}

case_cache_of_others() {
    [ "$(id -u)" = 0 ] || exit 77
    setup
    chmod -R a+rwX .
    mkdir cache && chmod 755 cache
    expect 0 setpriv --reuid=65534 --regid=65534 --clear-groups "$TRAIN" t.yaml data.cache=cache data.cache_gb=1 \
        train.epochs=1 run.name=c
    says "continuing without a cache"
    test "$(grep -c "continuing without a cache" out)" = 1
}

case_pipes_elsewhere() {
    setup
    mkfifo pipe
    expect 74 timeout 60 "$TRAIN" t.yaml run.name=p model.init_from=pipe
    says "pipe: not a regular file"
    expect 2 timeout 60 "$TRAIN" pipe
    mkdir fake && mkfifo fake/index.json
    expect 74 timeout 60 "$PACK" info fake
    says "fake/index.json: not a regular file"
}
