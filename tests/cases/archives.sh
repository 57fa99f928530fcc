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
