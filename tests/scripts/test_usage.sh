#!/bin/bash
# test_usage.sh SCRIPT... - checks that each script prints its usage for --help, and ends with exit code 2 for an
# unknown option.
failures=0
for script in "$@"; do
    if ! "$script" --help | grep -q '^Usage: '; then
        echo "$script --help: no usage"
        failures=$((failures + 1))
    fi
    "$script" --nonsense >/dev/null 2>&1
    code=$?
    if [ $code != 2 ]; then
        echo "$script --nonsense: exit code $code"
        failures=$((failures + 1))
    fi
done
echo "usage: $# scripts, $failures failed"
[ $failures = 0 ] && [ $# -gt 0 ]
