# shellcheck shell=bash
# Classes by name, one accuracy, damaged images.

# fruit FOLDER IMAGES CLASS...: images of one colour and some noise, a colour for each class.
fruit() {
    /usr/bin/python3 -c '
import os, random, sys, zlib
from PIL import Image
colours = {"apple": (200, 30, 30), "banana": (30, 200, 30), "cherry": (30, 30, 200), "date": (120, 120, 20)}
for c in sys.argv[3:]:
    os.makedirs(f"{sys.argv[1]}/{c}", exist_ok=True)
    for i in range(int(sys.argv[2])):
        r = random.Random(zlib.crc32(f"{sys.argv[1]}{c}{i}".encode()))
        pixels = bytes(max(0, min(255, v + r.randint(-30, 30))) for _ in range(24 * 24) for v in colours[c])
        Image.frombytes("RGB", (24, 24), pixels).save(f"{sys.argv[1]}/{c}/{i}.png")' "$@"
    "$PACK" imagefolder "$1" "$1.csz" >/dev/null
}

# top1 FILE: of csc-eval's JSON.
top1() {
    /usr/bin/python3 -c 'import json, sys; print(round(json.load(open(sys.argv[1]))["top1"], 6))' "$1"
}

# A validation set without ant: its bee is the network's second class, not its first. And one with a class more.
case_D1() {
    pics train ant bee cat
    pics val bee cat
    pics other bee cat dog
    for p in train val other; do "$PACK" imagefolder $p o-$p >/dev/null; done
    set -- "$CFG" model.width=4 train.batch=4 train.micro_batch=4 train.epochs=1 data.image_size=16 data.augment=none \
        data.train=o-train
    expect 0 "$TRAIN" "$@" data.val=o-val run.dir=run
    says "o-val: not all of the network's classes, so its labels are matched by name"
    expect 0 "$EVAL" run --data o-val
    says "o-val: not all of the network's classes, so its labels are matched by name"
    says "class   1 bee "
    silent_about "class   0"
    expect 2 "$TRAIN" "$@" data.val=o-other run.dir=run2
    says "o-other: class 2, 'dog', is none of the network's 3 classes"
    expect 2 "$EVAL" run --data o-other
    says "o-other: class 2, 'dog', is none of the network's 3 classes"
    expect 2 "$VIZ" run --data o-other --out pictures
    says "'dog'"
    expect 0 "$EVAL" run --data o-train
    silent_about "by name"
}

# What training reports on a subset of the classes is what the same images have among all classes.
case_T1() {
    setup
    fruit train 40 apple banana cherry
    fruit val 12 apple cherry
    fruit more 12 apple cherry date
    expect 0 "$TRAIN" t.yaml data.train=train.csz data.val=val.csz run.name=c1 train.epochs=12 run.log_every=100
    says "val.csz: not all of the network's classes"
    grep '"event":"eval"' runs/c1/metrics.jsonl | tail -n 1 | grep -F '"top1":1,'
    expect 0 "$EVAL" runs/c1/checkpoints/step-00000036 --data val.csz --json eval.json
    [ "$(top1 eval.json)" = 1.0 ]
    expect 2 "$TRAIN" t.yaml data.train=train.csz data.val=more.csz run.name=c2
    says "more.csz: class 2, 'date', is none of the network's 3 classes"
    grep -q '"cherry"' runs/c1/checkpoints/step-00000036/state.json
}

# The accuracies of training's evaluations are csc-eval's.
case_T4() {
    setup
    expect 0 "$TRAIN" t.yaml run.name=ev train.epochs=12 checkpoint.keep=20 run.log_every=1000
    grep 'evaluation on' out >said
    for step in 48 60 72; do
        expect 0 "$EVAL" runs/ev/checkpoints/step-000000$step --data ds/val
        says "$(sed -n "s/^step $step: evaluation on \(.*loss [0-9]*\.[0-9][0-9]\).*/\1/p" said)"
    done
}

# The best accuracy of one validation set says nothing about another one's.
case_T17() {
    setup
    fruit train 40 apple banana cherry
    fruit good 12 apple banana cherry
    cp -r good bad
    cp bad/apple/*.png bad/banana
    "$PACK" imagefolder bad bad.csz >/dev/null
    set -- "$TRAIN" t.yaml data.train=train.csz run.name=v train.epochs=16 run.log_every=100 checkpoint.keep=20
    expect 75 "$@" data.val=good.csz --stop-after=36
    expect 0 "$@" data.val=bad.csz --resume=auto
    says "another validation set: its best top-1, 100.00% at step"
    expect 0 "$TRAIN" --list-checkpoints runs/v
    [ "$(sed -n 's/^\* 0*\([0-9]*\) .*/\1/p' out)" -gt 36 ]
}

# A block of images is damaged: what is left is evaluated, and the line and the JSON say how many are missing.
case_T5() {
    setup
    cp -r ds dsd
    /usr/bin/python3 -c "
p = 'dsd/train/shard-00000.csz'
b = bytearray(open(p, 'rb').read())
b[len(b) // 2] ^= 0xff
open(p, 'wb').write(b)"
    expect 0 "$TRAIN" t.yaml run.name=dmg data.bad_sample=skip train.epochs=1 data.val=dsd/train
    says "images (26 damaged ones left out): top-1"
    expect 0 "$EVAL" runs/dmg --data dsd/train --json d.json
    says "214 images (26 damaged ones left out): top-1"
    grep -q '"images": 214' d.json
    grep -q '"missing": 26' d.json
    expect 0 "$VIZ" runs/dmg --data dsd/train --out pictures --limit 240 --json v.json
    says "images (26 damaged ones left out)"
    grep -q '"missing": 26' v.json
}
