#!/bin/bash
# test_shell.sh FILE... - shellcheck finds nothing to say about them.
command -v shellcheck >/dev/null || { echo "skipped: shellcheck is not installed"; exit 77; }
shellcheck -x "$@"
