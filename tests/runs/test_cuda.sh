#!/bin/sh
# test_cuda.sh CSC-TRAIN CSC-PACK - a build with CUDA on a machine without a GPU: device.kind=cuda says so in one line
# and exits 2, auto trains on the CPU and says so, and the driver's library is not linked.
train=$1 pack=$2
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
fail() {
    echo "FAILED: $*"
    exit 1
}
export OMP_WAIT_POLICY=passive
"$pack" synth "$folder/data" --images 20 --classes 2 --size 32 >/dev/null || fail "no data"
run() {
    "$train" "$folder/run.yaml" "run.dir=$folder/$1" "device.kind=$1" >"$folder/out" 2>"$folder/err"
}
cat >"$folder/run.yaml" <<END
model: {arch: sdnet18, width: 4}
data: {train: $folder/data/train}
train: {steps: 1, batch: 4}
END
if readelf -d "$train" | grep -q 'NEEDED.*libcuda\.so'; then
    fail "$train needs libcuda, which only machines with a driver have"
fi
if ls /dev/nvidia[0-9]* >/dev/null 2>&1; then
    echo "skipped: there is a GPU"
    exit 77
fi
run cuda
code=$?
[ $code = 2 ] || fail "device.kind=cuda: exit code $code, not 2: $(cat "$folder/err")"
[ "$(wc -l <"$folder/err")" = 1 ] || fail "device.kind=cuda: not one line: $(cat "$folder/err")"
grep -q 'device.kind: .*GPU.*; use cpu' "$folder/err" || fail "device.kind=cuda: $(cat "$folder/err")"
run auto || fail "device.kind=auto: exit code $?: $(cat "$folder/err")"
grep -q 'device.kind is auto: using the CPU, since .*GPU' "$folder/out" || fail "device.kind=auto says nothing: $(cat "$folder/out")"
grep -q '"device":"cpu"' "$folder/auto/metrics.jsonl" || fail "device.kind=auto did not train on the CPU"
