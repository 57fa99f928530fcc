#!/bin/bash
# test_print_config.sh CSC-TRAIN FILE... - checks that each configuration resolves without its data, and that the printed
# configuration prints itself.
program=$(readlink -f "$1")
shift
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0
for file in "$@"; do
    name=$(basename "$file")
    if ! "$program" "$file" --print-config >"$folder/$name" || ! [ -s "$folder/$name" ] ||
        ! (cd "$folder" && "$program" "$name" --print-config) | diff "$folder/$name" -; then
        echo "$name: failed"
        failures=$((failures + 1))
    fi
done
echo "print-config: $# configurations, $failures failed"
[ $failures = 0 ] && [ $# -gt 0 ]
