# shellcheck shell=bash
# What a checkout's own scripts say.

# quickstart's summary shows the accuracy that csc-eval reports of the whole set, not that of a class.
case_quickstart_summary() {
    setup
    expect 0 "$TRAIN" t.yaml run.dir=runs/q
    expect 0 "$EVAL" runs/q --data ds/val --json eval.json
    eval "$(sed -n '/^value_of() {/,/^}/p' "$ROOT/scripts/quickstart")"
    says "top-1 $(value_of top1 eval.json | awk '{ printf "%.2f%%", 100 * $1 }')"
}
