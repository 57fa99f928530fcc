#!/bin/sh
# nvcc.sh SOURCE COMMAND... - compiles one file of kernels and prints how many registers they use. Fails if a kernel
# spills registers or keeps variables in local memory: both would cost bandwidth.
source=$1
shift
if ! log=$("$@" 2>&1); then
    printf '%s\n' "$log" >&2
    exit 1
fi
printf '%s\n' "$log" | awk -v file="$(basename "$source")" '
    /Compiling entry function/ { arch = $NF; gsub(/\047/, "", arch); kernels[arch]++ }
    /bytes stack frame/ { if ($1 > 0 || $5 > 0 || $9 > 0) { print file ": " arch ": " $0; bad = 1 } }
    /Used [0-9]+ registers/ {
        for (i = 1; i < NF; i++)
            if ($i == "Used" && $(i + 1) > max[arch])
                max[arch] = $(i + 1)
    }
    /warning/ { print; bad = 1 }
    END {
        for (arch in kernels)
            printf "%s: %s: %d kernels, at most %d registers, %s\n", file, arch, kernels[arch], max[arch],
                bad ? "SPILLS" : "no spills"
        exit bad || length(kernels) == 0
    }'
