# shellcheck shell=bash
# shellcheck disable=SC2016 # the scripts in single quotes expand their own
# Outputs, logs, signals and limits: what --json writes into, readers that leave, full disks, groups of processes.

newest_step() {
    find "$1/checkpoints" -maxdepth 1 -name 'step-*' 2>/dev/null | sort | tail -n 1
}

# await_file FILE: waits for something in it, a minute at most.
await_file() {
    for _ in $(seq 600); do
        [ ! -s "$1" ] || return 0
        sleep 0.1
    done
    echo "$1 does not come"
    return 1
}

case_T2() {
    setup
    "$TRAIN" t.yaml run.name=t
    mkfifo pipe
    ln -s target link
    cat pipe >got &
    expect 0 "$EVAL" runs/t --data ds/val --json pipe
    wait $!
    grep -q '"top1"' got
    [ -p pipe ]
    for word in top1 pictures arch samples; do
        echo old >target
        case $word in
        top1) expect 0 "$EVAL" runs/t --data ds/val --json link ;;
        pictures) expect 0 "$VIZ" runs/t --data ds/val --out v --json link ;;
        arch) expect 0 "$BENCH" step --width 4 --batch 2 --steps 1 --arch resnet18 --json link ;;
        samples) expect 0 "$PACK" info ds/val --json link ;;
        esac
        [ -L link ]
        grep -q "\"$word\"" target
    done
    mknod -m 666 mynull c 1 3 2>/dev/null || skip "no device can be made here"
    true 2>/dev/null >mynull || skip "devices in $PWD cannot be opened"
    expect 0 "$EVAL" runs/t --data ds/val --json mynull --logits mynull
    [ -c mynull ]
}

case_T3() {
    local codes
    setup
    timeout -s INT 2 bash -c '"$0" t.yaml run.name=tee train.epochs=400 run.log_every=1 checkpoint.every_epochs=0 |
        tee log >/dev/null' "$TRAIN" || true
    await_file runs/tee/metrics.jsonl
    for _ in $(seq 100); do [ ! -e runs/tee/lock ] || sleep 0.1; done # the program outlives its shell by a step
    expect 0 "$TRAIN" --list-checkpoints runs/tee
    says ok
    "$TRAIN" t.yaml run.name=head run.log_every=1 2>errors | head -2 >/dev/null && codes=("${PIPESTATUS[@]}")
    [ "${codes[0]}" = 0 ]
    [ "$(grep -c 'lines are lost' errors)" = 1 ]
    [ -e runs/head/checkpoints/step-00000018 ]
}

case_T9() {
    setup
    "$TRAIN" t.yaml run.name=t train.epochs=1
    full() {
        code=0
        "$@" >/dev/full 2>out || code=$?
        [ "$code" = 74 ] || { echo "exit code $code, not 74: $*"; return 1; }
        [ "$(wc -l <out)" = 1 ] || { cat out; return 1; }
    }
    full "$EVAL" runs/t --data ds/val --json -
    says "No space left"
    full "$EVAL" runs/t --data ds/val
    full "$VIZ" runs/t --data ds/val --out v --json -
    full "$BENCH" step --width 4 --batch 2 --steps 1 --arch resnet18 --json -
    full "$TRAIN" t.yaml --print-config
    full "$TRAIN" t.yaml --dry-run
    full "$TRAIN" --list-checkpoints runs/t
    for program in "$PACK" "$TRAIN" "$EVAL" "$VIZ" "$BENCH"; do
        full "$program" --version
        full "$program" --help
    done
    full "$PACK" info ds/val
    full "$PACK" info ds/val --json -
    full "$PACK" verify ds/val
    expect 0 sh -c '"$0" t.yaml run.name=log train.epochs=1 >/dev/full' "$TRAIN"
}

# The clock is read an hour ahead, and then is not; the file system has no locks.
case_T12() {
    local holder
    setup
    cat >shim.c <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t id, struct timespec *t)
{
    int (*real)(clockid_t, struct timespec *) = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, t);
    if (id == CLOCK_REALTIME && getenv("AHEAD"))
        t->tv_sec += atoi(getenv("AHEAD"));
    return result;
}

static int forward(const char *name, int fd, int command, void *argument)
{
    int (*real)(int, int, ...) = (int (*)(int, int, ...))dlsym(RTLD_NEXT, name);
    if (command == F_OFD_SETLK) {
        errno = ENOLCK;
        return -1;
    }
    return real(fd, command, argument);
}

#define FORWARD(f)                                 \
    int f(int fd, int command, ...)                \
    {                                              \
        va_list list;                              \
        va_start(list, command);                   \
        void *argument = va_arg(list, void *);     \
        va_end(list);                              \
        return forward(#f, fd, command, argument); \
    }
FORWARD(fcntl64)
FORWARD(fcntl)
C
    cc -shared -fPIC -w -o shim.so shim.c -ldl
    LD_PRELOAD="" unshare -u true || skip "no second host name: unshare -u is not allowed here"
    ldd "$TRAIN" | grep -q asan && skip "a preloaded library comes before the sanitizer's"
    AHEAD=3600 LD_PRELOAD=$PWD/shim.so "$TRAIN" t.yaml run.name=lk train.epochs=100000 eval.every_epochs=100000 \
        checkpoint.every_epochs=0 checkpoint.every_minutes=5 run.log_every=1000 &
    holder=$!
    await_file runs/lk/metrics.jsonl
    LD_PRELOAD=$PWD/shim.so expect 2 unshare -u bash -c 'hostname otherhost; exec "$0" t.yaml run.name=lk --resume=auto' "$TRAIN"
    says "is being written by pid $holder"
    kill -USR1 $holder
    wait $holder || [ $? = 75 ]
}

case_T15() {
    setup
    unshare -m true 2>/dev/null || skip "no file system can be mounted here"
    expect 0 unshare -m bash -c 'mkdir disk && mount -t tmpfs -o size=20m csc disk || exit 77
        "$0" t.yaml run.dir=disk/run train.epochs=100000 eval.every_epochs=100000 checkpoint.every_epochs=0 2>errors &
        until [ -s disk/run/metrics.jsonl ]; do sleep 0.1; kill -0 $! || exit 1; done
        dd if=/dev/zero of=disk/fill bs=4k 2>/dev/null
        until grep -q "lines are lost" errors; do sleep 0.1; kill -0 $! || exit 1; done
        sleep 2
        kill -USR1 $!
        wait $!
        [ $? = 74 ]' "$TRAIN" # no room for the checkpoint at its end
    [ "$(grep -c 'lines are lost' errors)" = 1 ]
}

case_T18() {
    local i
    setup
    for i in 1 2 3 4; do # timeout signals the program, and then its group
        timeout -s INT 1.5 "$TRAIN" t.yaml run.name=two$i train.epochs=100000 eval.every_epochs=100000 checkpoint.every_epochs=0 \
            run.log_every=1000 || true
        [ -n "$(newest_step runs/two$i)" ]
    done
    for signal in USR2 XCPU HUP; do # a minute at most, should it not be heard
        "$TRAIN" t.yaml run.name=$signal train.epochs=400 eval.every_epochs=100000 checkpoint.every_epochs=0 >log &
        await_file runs/$signal/metrics.jsonl
        kill -$signal $!
        wait $! || [ $? = 75 ]
        grep -q "(SIG$signal)" log
        [ -n "$(newest_step runs/$signal)" ]
    done
}

case_T27() {
    setup
    OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=1 expect 2 "$TRAIN" t.yaml
    says "mpirun started 2 processes (OMPI_COMM_WORLD_SIZE)"
}

case_T29() {
    setup
    unshare -m true 2>/dev/null || skip "no file system can be mounted here"
    expect 74 unshare -m bash -c 'mkdir disk && mount -t tmpfs -o size=300k csc disk && exec "$0" t.yaml run.dir=disk/run' "$TRAIN"
    says " MB are free"
    silent_about "0.00 GB"
    expect 75 unshare -m bash -c 'mount -t tmpfs -o size=20m csc disk
        "$0" t.yaml run.dir=disk/run train.epochs=100000 eval.every_epochs=100000 checkpoint.every_epochs=0 \
            checkpoint.every_steps=12 checkpoint.keep=1 2>&1 &
        until [ -e disk/run/checkpoints/step-00000012 ]; do sleep 0.05; kill -0 $! || exit 1; done
        dd if=/dev/zero of=disk/fill bs=4k 2>/dev/null
        sleep 2
        rm disk/fill
        kill -USR1 $!
        wait $!' "$TRAIN"
    grep 'no checkpoint at step' out | sed 's/.*at step \([0-9]*\):.*step-0*\([0-9]*\).*/\1 \2/' | awk '$1 != $2 || $1 % 12 { exit 1 }'
    says "no checkpoint at step"
}

case_T31() {
    setup
    mkdir bin
    cp "$TRAIN" bin/csc-train
    eval "$(sed -n '/^run_folder() {/,/^}/p; /^newest_checkpoint() {/,/^}/p' "$ROOT/scripts/slurm/csc-slurm")"
    for name in "o'brien" 'a "b" \c' plain; do
        PATH=$PWD/bin:$PATH csc-train t.yaml "run.dir=runs/$name" train.epochs=1
        [ "$(PATH=$PWD/bin:$PATH newest_checkpoint t.yaml "run.dir=runs/$name")" = step-00000006 ]
    done
}

case_T33() {
    local job
    setup
    for how in "mv runs/a runs/b" "rm -r runs/a"; do
        "$TRAIN" t.yaml run.name=a train.epochs=100000 eval.every_epochs=100000 checkpoint.every_epochs=0 >log 2>errors &
        job=$!
        await_file runs/a/metrics.jsonl
        $how
        sleep 1
        kill -USR1 $job
        wait $job || [ $? = 75 ]
        [ "$(grep -c "runs/a was .* while training" errors)" = 1 ]
        rm -rf runs
    done
}

case_T7() {
    setup
    unset OMP_WAIT_POLICY # the runner's: with it the program does not start itself again
    expect 0 "$TRAIN" t.yaml device.threads=auto --print-config
    grep threads: out >free
    OMP_PROC_BIND=spread OMP_PLACES=threads expect 0 "$TRAIN" t.yaml device.threads=auto --print-config
    grep threads: out | cmp - free
    OMP_PROC_BIND=spread OMP_PLACES=threads expect 0 "$TRAIN" t.yaml device.threads=auto train.epochs=1
    silent_about "warning"
    OMP_PLACES="{0}" expect 0 "$TRAIN" t.yaml device.threads=2 train.epochs=1 run.name=placed
    says "OMP_PLACES leaves 1 of"
}

# in_group CONTROLLER FILE VALUE COMMAND...: in a control group of its own, where one can be made.
in_group() {
    local group=/sys/fs/cgroup/$1/csc-case-$$ code=0
    mkdir "$group" 2>/dev/null || skip "no control group of version 1 can be made here"
    echo "$3" >"$group/$2"
    bash -c 'echo $$ >"$0/cgroup.procs"; exec "$@"' "$group" "${@:4}" || code=$?
    rmdir "$group"
    return $code
}

case_T8() {
    setup
    large=(model.width=64 train.epochs=1 train.batch=120 train.micro_batch=120 data.val=none)
    expect 71 in_group memory memory.limit_in_bytes 150M "$TRAIN" t.yaml run.name=cg "${large[@]}"
    says "are available"
    expect 71 in_group memory memory.limit_in_bytes 150M "$TRAIN" t.yaml run.name=cg "${large[@]}" --dry-run
    expect 0 in_group memory memory.limit_in_bytes 150M "$TRAIN" t.yaml run.name=cg train.epochs=1
    expect 0 in_group cpu cpu.cfs_quota_us 50000 "$TRAIN" t.yaml device.threads=auto data.workers=auto --print-config
    says "  threads: 1"
    says "  workers: 1"
}

case_T13() {
    setup
    for threads in 1025 2048 4096; do
        expect 2 "$TRAIN" t.yaml run.name=b data.val=none device.threads=$threads
        says "device.threads"
    done
    expect 0 "$TRAIN" t.yaml run.name=b device.threads=1024 --print-config
}
