#!/bin/sh
# expect.sh CODE SECONDS LINES COMMAND ... - runs a command that must end with this exit code within so many seconds and
# whose standard error must contain each of LINES (separated by newlines) exactly once.
code=$1
seconds=$2
lines=$3
shift 3
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
start=$(date +%s)
timeout "$seconds" "$@" 2>"$errors"
got=$?
echo "exit code $got after $(($(date +%s) - start)) s"
cat "$errors" >&2
[ "$got" = 77 ] && [ "$code" != 77 ] && exit 77
[ "$got" = "$code" ] || { echo "expected exit code $code"; exit 1; }
echo "$lines" | while IFS= read -r line; do
    [ -n "$line" ] || continue
    count=$(grep -cF -e "$line" "$errors")
    [ "$count" = 1 ] || { echo "expected once, found $count times: $line"; exit 1; }
done
