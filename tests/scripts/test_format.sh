#!/usr/bin/env bash
# test_format.sh FOLDER - is all C and CUDA of a checkout laid out as its .clang-format says, by version 14?
set -euo pipefail
cd "$1"
git rev-parse --is-inside-work-tree >/dev/null 2>&1 || {
    echo "not a git checkout: its files cannot be listed"
    exit 77
}
for format in clang-format-14 clang-format; do
    if "$format" --version 2>/dev/null | grep -q 'version 14\.'; then
        git ls-files -z --cached --others --exclude-standard '*.c' '*.h' '*.cu' |
            xargs -0 "$format" --dry-run -Werror
        exit # with the status of the pipe
    fi
done
echo "clang-format 14 is not here; others lay some lines out in other ways"
exit 77
