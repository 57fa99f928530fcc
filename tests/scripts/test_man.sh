#!/bin/bash
# test_man.sh PROGRAM PAGE - checks that the man page and --help list the same options and subcommands.
program=$1 page=$2 name=$(basename "$1")
failures=0

options_of() {
    grep -oE -e '--[a-z][a-z-]+' | sort -u
}

help=$("$program" --help) || { echo "$name --help failed"; exit 1; }
mapfile -t subcommands < <(sed -nE "s/^ +$name ([a-z0-9]+)( .*)?$/\1/p" <<<"$help" | sort -u)
for subcommand in "${subcommands[@]}"; do
    help+=$'\n'$("$program" "$subcommand" --help)
    grep -qE "^\.(BI|B) ($name )?(.*\|\\\\fB)?$subcommand( |$)" "$page" || {
        echo "$page does not describe the subcommand $subcommand"
        failures=$((failures + 1))
    }
done

# roff writes -- as \-\-. Options of other programs occur only in the examples.
page_options=$(sed -n '/^\.SH OPTIONS/,/^\.SH EXIT/p' "$page" | sed 's/\\-/-/g' | options_of)
help_options=$(options_of <<<"$help"$'\n--version')
difference=$(diff <(echo "$help_options") <(echo "$page_options")) || {
    echo "--help (<) and $page (>) differ:"
    echo "$difference"
    failures=$((failures + 1))
}
echo "$name: ${#subcommands[@]} subcommands, $(wc -l <<<"$help_options") options, $failures differences"
[ $failures = 0 ]
