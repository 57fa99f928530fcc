#!/bin/bash
# test_shell.sh FILE... - checks that shellcheck accepts the files.
command -v shellcheck >/dev/null || { echo "skipped: shellcheck is not installed"; exit 77; }
shellcheck -x "$@"
