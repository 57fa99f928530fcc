# shellcheck shell=bash
# A run that moves, a recipe that changes, configurations and weights as people have them.

# weights IN OUT f16|nan|shape|cut: a run's weights as F16, with a NaN, of another shape, cut short.
weights() {
    /usr/bin/python3 - "$@" <<'PY'
import array, json, struct, sys
source, out, kind = sys.argv[1:]
data = open(source, "rb").read()
size = struct.unpack("<Q", data[:8])[0]
header, body = json.loads(data[8:8 + size]), data[8 + size:]
name = "layer0.0.dn.weight"
blobs, at = [], 0
for tensor, entry in header.items():
    if tensor == "__metadata__":
        continue
    values = array.array("f", body[slice(*entry["data_offsets"])])
    if kind == "nan" and tensor == name:
        values[5] = float("nan")
    blob = values.tobytes()
    if kind == "f16":
        entry["dtype"], blob = "F16", struct.pack(f"<{len(values)}e", *values)
    if kind == "shape" and tensor == name:
        entry["shape"] = [8, 3, 1, 9]
    entry["data_offsets"] = [at, at + len(blob)]
    at += len(blob)
    blobs.append(blob)
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
whole = struct.pack("<Q", len(text)) + text + b"".join(blobs)
open(out, "wb").write(whole[:len(whole) // 2] if kind == "cut" else whole)
PY
}

# A run's config.yaml means the folder that it lies in; run.name names the folder too; nothing to resume is said.
case_T6() {
    setup
    expect 75 "$TRAIN" t.yaml run.name=mv_a --stop-after=8
    mv runs/mv_a runs/mv_b
    expect 75 "$TRAIN" runs/mv_b/config.yaml --resume=auto --stop-after=1
    says "resuming from runs/mv_b/checkpoints/step-00000008"
    [ ! -e runs/mv_a ]
    [ -d runs/mv_b/checkpoints/step-00000009 ]
    (cd runs/mv_b && expect 75 "$TRAIN" config.yaml data.train=../../ds/train data.val=../../ds/val --resume=auto \
        --stop-after=1)
    [ ! -e runs/mv_b/runs ]
    [ -d runs/mv_b/checkpoints/step-00000010 ]
    expect 0 "$TRAIN" t.yaml run.name=A train.epochs=1
    expect 0 "$TRAIN" runs/A/config.yaml run.name=B --resume=auto
    says "nothing to resume in runs/B"
    [ -d runs/B/checkpoints/step-00000006 ]
    expect 2 "$TRAIN" runs/A/config.yaml
    says "runs/A holds checkpoints"
    expect 0 "$TRAIN" runs/A/config.yaml run.dir=elsewhere
    [ -d elsewhere/checkpoints ]
}

# A byte order mark before the first key is in nobody's way.
case_T10() {
    setup
    (printf '\xef\xbb\xbf' && cat t.yaml) >bom.yaml
    expect 0 "$TRAIN" bom.yaml --print-config
    (printf '\xef\xbb\xbf---\r\n' && sed 's/$/\r/' t.yaml) >bom.yaml
    expect 0 "$TRAIN" bom.yaml --print-config
    (printf '\xef\xbb\xbf' && sed 's/epochs/epohcs/' t.yaml) >bom.yaml
    expect 2 "$TRAIN" bom.yaml --print-config
    says "bom.yaml:3:9: unknown key 'epohcs'"
}

# ~ and $HOME that no shell has expanded make no folders of that name, in any program.
# shellcheck disable=SC2016,SC2088
case_T11() {
    setup
    expect 2 "$TRAIN" t.yaml 'run.dir=~/x'
    says "run.dir"
    expect 2 "$TRAIN" t.yaml 'data.cache=$HOME/x' data.cache_gb=1
    sed 's|run: {|run: {dir: /tmp/$USER/x, |' t.yaml >home.yaml
    expect 2 "$TRAIN" home.yaml
    says "home.yaml:4:"
    expect 2 "$TRAIN" t.yaml '--resume=~/x'
    expect 2 "$PACK" synth '~/ds'
    expect 2 "$EVAL" runs/none --data ds/val '--json=~/x.json'
    expect 2 "$VIZ" runs/none --data ds/val '--out=~/x'
    expect 2 "$BENCH" layers '--json=~/x.json'
    says "put a space in place of ="
    [ ! -e "./~" ]
    [ ! -e './$HOME' ]
    expect 0 "$TRAIN" t.yaml run.dir=./~x train.steps=1 data.val=none
}

# A configuration of one's own in the run's folder is kept under another name.
case_T14() {
    setup
    mkdir -p runs/own runs/link
    (echo "# my notes" && cat t.yaml) >runs/own/config.yaml
    cp runs/own/config.yaml before.yaml
    expect 0 "$TRAIN" runs/own/config.yaml run.dir=runs/own train.epochs=1
    says "own-config.yaml"
    cmp runs/own/own-config.yaml before.yaml
    expect 0 "$TRAIN" runs/own/config.yaml --resume=auto
    silent_about own-config
    echo "  # longer next time" >>runs/own/config.yaml
    expect 0 "$TRAIN" runs/own/config.yaml --resume=auto
    grep "longer next time" runs/own/own-config.2.yaml
    ln -s ../../before.yaml runs/link/config.yaml
    expect 0 "$TRAIN" runs/link/config.yaml run.dir=runs/link train.epochs=1
    [ -L runs/link/own-config.yaml ]
    [ ! -L runs/link/config.yaml ]
    grep "my notes" before.yaml
}

# What is advised after a loss that is not finite can be done.
case_T16() {
    setup
    local adv=("$TRAIN" t.yaml run.name=adv train.epochs=2 checkpoint.every_steps=1)
    expect 87 "${adv[@]}" train.lr=1e6
    says "--change=train.lr"
    expect 2 "${adv[@]}" train.lr=0.01 --resume=auto
    says "allow it with --change=train.lr"
    expect 0 "${adv[@]}" train.lr=0.01 --resume=auto --change=train.lr
    says "changed: train.lr 1000000 -> 0.01"
    expect 0 "$TRAIN" t.yaml run.name=new train.epochs=1
    expect 2 "$TRAIN" t.yaml run.name=new train.lr=0.01 train.epochs=2 train.clip=1 --resume=auto
    says "allow it with --change=train.epochs,train.lr,train.clip"
    expect 0 "$TRAIN" t.yaml run.name=new train.lr=0.01 train.steps=9 train.clip=1 --resume=auto \
        --change=train.lr,train.steps,train.clip
    says "train.lr 0.05 -> 0.01"
    grep '"event":"resume"' runs/new/metrics.jsonl | grep -F 'train.clip 0 -> 1'
    expect 0 "$TRAIN" t.yaml run.name=new train.lr=0.01 train.steps=9 train.clip=1 --resume=auto --change=train.lr
    says "train.lr does not differ"
    expect 2 "$TRAIN" t.yaml run.name=new train.batch=20 --resume=auto --change=train.batch
    says "train.batch cannot change at a resume"
    expect 2 "$TRAIN" t.yaml run.name=new --resume=auto --change=train.rl
    says "unknown key 'train.rl' (did you mean 'lr'?)"
    expect 2 "$TRAIN" t.yaml run.name=new --resume=auto --change=run.log_every
    expect 2 "$TRAIN" t.yaml run.name=other --change=train.lr
}

# Weights that do not fit are told by their type, all of their shape, and the value that is no number.
case_T19() {
    setup
    expect 0 "$TRAIN" t.yaml run.name=w train.steps=1 data.val=none
    local model=runs/w/checkpoints/step-00000001/model.safetensors
    weights "$model" half.safetensors f16
    expect 65 "$TRAIN" t.yaml run.name=i model.init_from=half.safetensors train.steps=1
    says "is F16, F32 is needed; scripts/csc_torch.py convert"
    expect 0 "$TRAIN" t.yaml run.name=i model.init_from="$model" train.steps=1
}

case_T21() {
    setup
    expect 0 "$TRAIN" t.yaml run.name=w train.steps=1 data.val=none
    local model=runs/w/checkpoints/step-00000001/model.safetensors
    expect 65 "$TRAIN" t.yaml run.name=i model.init_from="$model" model.stem=imagenet
    says "'layer0.0.dn.weight' is 8x3x3x3, this network's is 8x3x7x7"
}

case_T23() {
    setup
    expect 0 "$TRAIN" t.yaml run.name=w train.steps=1 data.val=none
    weights runs/w/checkpoints/step-00000001/model.safetensors nan.safetensors nan
    expect 65 "$TRAIN" t.yaml run.name=i model.init_from=nan.safetensors train.steps=1
    says "tensor 'layer0.0.dn.weight' holds nan (value 6 of 216)"
    [ ! -e runs/i ]
}

# A resume with other classes names the checkpoint's.
case_T20() {
    setup
    expect 75 "$TRAIN" t.yaml run.name=c --stop-after=1
    expect 2 "$TRAIN" t.yaml run.name=c model.classes=10 --resume=auto
    says "cannot resume with another model.classes: the checkpoint has 4, this configuration 10"
}

# --dry-run looks at what the start would read; a start that fails leaves no folder.
case_T22() {
    setup
    expect 74 "$TRAIN" t.yaml run.name=n model.init_from=nosuch.safetensors --dry-run
    says "model.init_from: nosuch.safetensors"
    expect 74 "$TRAIN" t.yaml run.name=n model.init_from=nosuch.safetensors
    [ ! -e runs/n ]
    expect 75 "$TRAIN" t.yaml run.name=r --stop-after=1
    weights runs/r/checkpoints/step-00000001/model.safetensors odd.safetensors shape
    expect 65 "$TRAIN" t.yaml run.name=n model.init_from=odd.safetensors --dry-run
    weights runs/r/checkpoints/step-00000001/model.safetensors cut.safetensors cut
    expect 65 "$TRAIN" t.yaml run.name=n model.init_from=cut.safetensors --dry-run
    expect 0 "$TRAIN" t.yaml run.name=n model.init_from=runs/r/checkpoints/step-00000001/model.safetensors --dry-run
    expect 2 "$TRAIN" t.yaml run.name=r train.lr=1 --resume=auto --dry-run
    says "cannot resume with another train.lr"
    expect 0 "$TRAIN" t.yaml run.name=r train.lr=1 --resume=auto --change=train.lr --dry-run
    expect 74 "$TRAIN" t.yaml run.name=r --resume=nowhere --dry-run
    [ ! -e runs/n ]
}

# Batch norm over single values is warned of.
case_T24() {
    setup
    local small=(data.image_size=8 train.batch=4 train.steps=1 data.val=none)
    expect 0 "$TRAIN" t.yaml run.name=one "${small[@]}" train.micro_batch=1
    says "layer4.0.bn1: batch norm sees one value per channel"
    expect 0 "$TRAIN" t.yaml run.name=two "${small[@]}" train.micro_batch=2
    silent_about "one value"
    expect 0 "$TRAIN" t.yaml model.stem=imagenet train.micro_batch=1 --dry-run
    says "one value per channel"
}

# A warm-up that is longer than the run is refused, in steps as in epochs.
case_T25() {
    setup
    expect 2 "$TRAIN" t.yaml train.steps=4 train.schedule.warmup_epochs=100
    says "train.schedule.warmup_epochs of 100 is longer than the run"
    expect 2 "$TRAIN" t.yaml train.steps=4 train.schedule.kind=onecycle train.schedule.warmup_epochs=1
    expect 0 "$TRAIN" t.yaml run.name=s train.steps=6 train.schedule.warmup_epochs=1 data.val=none
    expect 0 "$TRAIN" t.yaml train.steps=4 train.schedule.kind=step train.schedule.milestones='[1]' --dry-run
    says "milestones: 1 is not before the end"
}

# Options stand behind operands under POSIXLY_CORRECT too.
case_T26() {
    setup
    export POSIXLY_CORRECT=1
    expect 0 "$TRAIN" t.yaml run.name=p train.steps=1 data.val=none --resume=auto
    expect 0 "$PACK" verify ds/val --deep
    expect 0 "$EVAL" runs/p --data ds/val --limit 3
    expect 0 "$VIZ" runs/p --data ds/val --out v --images 2 --limit 2
}

# Other bits on another number of ranks are said where they are other, and only there.
case_T28() {
    command -v mpirun >/dev/null || skip "no mpirun"
    setup
    local same=(run.deterministic=true data.val=none --resume=auto --stop-after=1)
    expect 75 "$TRAIN" t.yaml run.name=d train.batch=60 "${same[@]}"
    expect 75 on_ranks 3 "$TRAIN" t.yaml run.name=d train.batch=60 "${same[@]}"
    says "the same only up to rounding"
    expect 75 "$TRAIN" t.yaml run.name=e "${same[@]}"
    expect 75 on_ranks 2 "$TRAIN" t.yaml run.name=e "${same[@]}"
    silent_about "the same only up to rounding"
}

# A checkpoint that cannot be read is not a damaged one.
case_T30() {
    setup
    expect 0 "$TRAIN" t.yaml run.name=u data.val=none
    local last=runs/u/checkpoints/step-00000018
    mv $last/MANIFEST kept
    ln -s MANIFEST $last/MANIFEST
    expect 74 "$TRAIN" --list-checkpoints runs/u
    says "1 of 3 checkpoints cannot be read"
    rm $last/MANIFEST
    expect 65 "$TRAIN" --list-checkpoints runs/u
    says "1 of 3 checkpoints damaged"
    for folder in runs/u/checkpoints/step-*; do
        rm -f "$folder/MANIFEST"
        ln -s MANIFEST "$folder/MANIFEST"
    done
    expect 74 "$TRAIN" t.yaml run.name=u data.val=none --resume=auto
    says "none of its 3 checkpoints can be read"
    expect 74 "$EVAL" runs/u --data ds/val
}

# csc_torch.py advises to trust a file only where that would help.
case_T32() {
    /usr/bin/python3 -c 'import torch' 2>/dev/null || skip "no PyTorch"
    local convert=(/usr/bin/python3 "$ROOT/scripts/csc_torch.py" convert)
    expect 74 "${convert[@]}" nosuch.pth x
    says "nosuch.pth: No such file"
    silent_about trust
    /usr/bin/python3 -c '
import torch
torch.save({"w": torch.zeros(100)}, "zip.pth")
torch.save({"w": torch.zeros(100)}, "old.pth", _use_new_zipfile_serialization=False)
class Code:
    def __reduce__(self):
        return (print, ("run",))
torch.save({"w": torch.zeros(1), "c": Code()}, "code.pth")'
    for kind in zip old; do
        head -c 300 $kind.pth >cut.pth
        expect 65 "${convert[@]}" cut.pth x
        silent_about trust
    done
    echo "not weights" >text.pth
    expect 65 "${convert[@]}" text.pth x
    silent_about trust
    expect 65 "${convert[@]}" code.pth x
    says "--trust lets it run"
}
