#!/bin/sh
# test_gpu_check.sh GPU-CHECK - without a GPU it says so and exits 77; with a stand-in for nvidia-smi and for the
# programs, its report holds every part that was asked for, with its outcome.
check=$1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
fail() {
    echo "FAILED: $*"
    exit 1
}
mkdir "$folder/none" "$folder/bin" "$folder/golden" "$folder/path"
for tool in bash sh readlink dirname nvidia-smi head; do # a PATH without nvidia-smi
    [ $tool = nvidia-smi ] || ln -s "$(command -v $tool)" "$folder/none/$tool"
done
out=$(PATH=$folder/none "$check" --report="$folder/report" ops)
code=$?
[ $code = 77 ] || fail "without a GPU: exit code $code, not 77"
echo "$out" | grep -q 'there is no GPU' || fail "without a GPU: '$out'"
"$check" nonsense >/dev/null 2>&1
[ $? = 2 ] || fail "an unknown part is accepted"

cp "$check" "$folder/gpu-check"
printf '#!/bin/sh\necho Test GPU\n' >"$folder/path/nvidia-smi"
printf '#!/bin/sh\necho "all \\"well\\""\n' >"$folder/bin/check_ops"
printf '#!/bin/sh\nexit 1\n' >"$folder/bin/test-golden"
cp "$folder/bin/check_ops" "$folder/bin/test-csc"
cp "$folder/bin/check_ops" "$folder/bin/csc-train"
chmod +x "$folder"/bin/* "$folder/path/nvidia-smi"
touch "$folder/libcudnn.so.9"
printf '#!/bin/sh\necho "libcublasLt.so.13 => not found"\n' >"$folder/path/ldd"
chmod +x "$folder/path/ldd"
out=$(PATH=$folder/path:$PATH "$folder/gpu-check" --report="$folder/report" --lib="$folder" ops 2>&1)
code=$?
[ $code = 2 ] || fail "without cuBLASLt: exit code $code, not 2"
echo "$out" | grep -q 'libcublasLt.so.13 is in none' || fail "without cuBLASLt: '$out'"
rm "$folder/path/ldd"
PATH=$folder/path:$PATH "$folder/gpu-check" --report="$folder/report" --lib="$folder" ops golden train-sdnet18 >"$folder/out"
code=$?
[ $code = 1 ] || fail "a failed part: exit code $code, not 1: $(cat "$folder/out")"
for expected in '"part":"ops","outcome":"passed"' '"part":"golden","outcome":"failed"' \
    '"part":"train-sdnet18","outcome":"skipped"' '"gpu":"Test GPU"' '"last_line":"all \"well\""'; do
    grep -qF "$expected" "$folder/report/report.json" || fail "no $expected in $(cat "$folder/report/report.json")"
done
if command -v python3 >/dev/null; then
    python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$folder/report/report.json" || fail "report.json is no JSON"
fi
for expected in 'ops: passed' 'sanitizer: not run' 'CIFAR-10, sdnet18: not measured (95% wanted)' \
    "224x224, resnet18, of PyTorch's ResNet-18: not measured (1.2 wanted)"; do
    grep -qxF "$expected" "$folder/report/report.txt" || fail "no '$expected' in $(cat "$folder/report/report.txt")"
done
# as the parts write them
printf '"resnet18":{"img_s":20914.5},"sdnet18":{"img_s":15975},"sdnet18-all":{"img_s":8212},"sdnet18-all:one-step":{"img_s":10932}' \
    >"$folder/report/trace.numbers"
printf '"torch": "2.11", "resnet18": {"eager": 11814.0, "compiled": 16146.2}, "sdnet18-all": {"eager": 4150.0, "compiled": null, "published": 1600.0, "published_batch": 128, "published_by": "that code"}' \
    >"$folder/report/torch-224.numbers"
printf '"top1":0.9512,"seconds":170' >"$folder/report/train-sdnet18.numbers"
printf '"top1":0.956,"seconds":150' >"$folder/report/train-resnet18.numbers"
PATH=$folder/path:$PATH "$folder/gpu-check" --report="$folder/report" --lib="$folder" ops >"$folder/out"
for expected in 'CIFAR-10, sdnet18, in 170 s: 95.12%, reached (95% wanted)' \
    'CIFAR-10, resnet18 at 0.956 from sdnet18: 0.48 points, NOT reached (within 0.4 wanted)' \
    "224x224, resnet18, of PyTorch's ResNet-18: 1.295, reached (1.2 wanted)" \
    "224x224, sdnet18, of PyTorch's ResNet-18: 0.9894, NOT reached (1.0 wanted)" \
    "224x224, sdnet18-all, of PyTorch's ResNet-18: 0.5086, reached (0.5 wanted)" \
    "224x224, sdnet18-all, of the published code's speed, by that code: 5.133, reached (5 wanted)"; do
    grep -qxF "$expected" "$folder/report/report.txt" || fail "no '$expected' in $(cat "$folder/report/report.txt")"
done
grep -q '^golden: failed in [0-9]* s' "$folder/report/report.txt" || fail "report.txt: $(cat "$folder/report/report.txt")"
