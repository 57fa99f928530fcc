#!/bin/bash
# test_sbatch.sh TRAIN.SBATCH - the batch script against stand-ins of srun, csc-train and scontrol: it passes exit
# codes on, and requeues after exit code 75 and after a USR1, but not a run that is done.
script=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

cat >"$folder/srun" <<'EOF'
#!/bin/sh
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
EOF
cat >"$folder/csc-train" <<'EOF'
#!/bin/bash
# Exits with CODE; with WAIT, only once asked to by USR1.
echo "$@" >>"$FOLDER/calls"
asked=no
trap 'asked=yes' USR1
touch "$FOLDER/ready"
for ((i = 0; i < 100 && WAIT; i++)); do
    [ $asked = no ] || break
    sleep 0.1
done
exit "$CODE"
EOF
cat >"$folder/scontrol" <<'EOF'
#!/bin/sh
echo "$@" >"$FOLDER/requeued"
EOF
chmod +x "$folder"/*
export FOLDER=$folder PATH="$folder:$PATH" SLURM_JOB_ID=42 CODE WAIT

# run NAME CODE SIGNAL EXPECTED-CODE EXPECTED-REQUEUE
run() {
    local name=$1 requeued=no
    CODE=$2 WAIT=0
    [ "$3" = no ] || WAIT=1
    rm -f "$folder/requeued" "$folder/calls" "$folder/ready"
    bash "$script" net.yaml train.lr=0.2 >"$folder/out" 2>&1 &
    local job=$!
    if [ "$3" != no ]; then
        for ((i = 0; i < 100; i++)); do [ -e "$folder/ready" ] && break; sleep 0.1; done
        kill -USR1 $job
    fi
    wait $job
    local code=$?
    [ "$(cat "$folder/requeued" 2>/dev/null)" = "requeue 42" ] && requeued=yes
    if [ $code != "$4" ] || [ $requeued != "$5" ] || [ "$(cat "$folder/calls")" != "net.yaml train.lr=0.2 --resume=auto" ]; then
        echo "$name: exit code $code, requeued: $requeued, calls: $(cat "$folder/calls")"
        cat "$folder/out"
        failures=$((failures + 1))
    fi
}

#   what                        code signal  exit requeued
run "done"                      0    no      0    no
run "bad configuration"         2    no      2    no
run "lost node"                 69   no      69   no
run "stopped by itself"         75   no      0    yes
run "asked to stop"             75   yes     0    yes
run "asked before it started"   244  yes     0    yes
run "fails when asked to stop"   87  yes     87   no
run "asked in its last step"    0    yes     0    no
[ "$(bash "$script" 2>&1 | grep -c usage)" = 1 ] || failures=$((failures + 1))
echo "sbatch: 9 cases, $failures failed"
[ $failures = 0 ]
