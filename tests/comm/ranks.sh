#!/bin/sh
# ranks.sh RANKS PROGRAM [ARGUMENT ...] - runs a test on several ranks of this machine, more than cores if need be.
# Exits as mpirun does, which is as the first failing rank; 77 without mpirun.
ranks=$1
shift
if ! command -v mpirun >/dev/null; then
    echo "skipped: no mpirun"
    exit 77
fi
if mpirun --version 2>/dev/null | grep -q 'Open MPI'; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    exec mpirun --oversubscribe --bind-to none -np "$ranks" "$@" </dev/null
fi
exec mpirun -np "$ranks" "$@" </dev/null
