#!/bin/bash
# test_csc_slurm.sh BATCH-FILES-FOLDER - csc-slurm and the batch files against stand-ins of srun, csc-train, scontrol and
# scancel: exit codes, what is requeued and what is not, and when it gives up.
scripts=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failures=0

cat >"$folder/srun" <<'EOS'
#!/bin/sh
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
EOS
cat >"$folder/csc-train" <<'EOS'
#!/bin/bash
# Exits with CODE; with WAIT=1, only once asked to by USR1.
if [ "${*: -1}" = --print-config ]; then
    printf 'run:\n  name: net\n  dir: %s\n' "$FOLDER/run"
    exit 0
fi
echo "$@" >>"$FOLDER/calls"
asked=no
trap 'asked=yes' USR1
touch "$FOLDER/ready"
while [ "$WAIT" = 1 ] && [ $asked = no ]; do sleep 0.1; done
exit "$CODE"
EOS
cat >"$folder/scontrol" <<'EOS'
#!/bin/bash
if [ "$1" = --oneliner ]; then
    echo "JobId=42 JobName=net Requeue=1 $STATE RunTime=00:01:00"
    exit 0
fi
[ ! -e "$FOLDER/busy" ] || { rm "$FOLDER/busy"; exit 1; }
echo "$@" >>"$FOLDER/requeued"
EOS
cat >"$folder/scancel" <<'EOS'
#!/bin/sh
echo "$@" >"$FOLDER/cancelled"
EOS
chmod +x "$folder"/*
export FOLDER=$folder PATH="$folder:$scripts:$PATH" SLURM_JOB_ID=42 CODE WAIT STATE
cd "$folder" || exit 1

# check NAME GOT WANTED
check() {
    if [ "$2" != "$3" ]; then
        echo "$1: got '$2', not '$3'"
        cat "$folder/out"
        failures=$((failures + 1))
    fi
}

# run NAME BATCH-FILE CODE SIGNAL JOB-STATE: exit code, requeued and cancelled are left in files and $got.
run() {
    CODE=$3 WAIT=0 STATE="JobState=${5%% *} Reason=None Restarts=0"
    case $5 in
    *TimeLimit) STATE=${STATE/None/TimeLimit} ;;
    *requeued) STATE=${STATE/%0/1} ;;
    esac
    [ "$4" = no ] || WAIT=1
    rm -f "$folder"/{requeued,cancelled,calls,ready}
    bash "$scripts/$2" net.yaml train.lr=0.2 >"$folder/out" 2>&1 &
    local job=$!
    if [ "$4" != no ]; then
        while [ ! -e "$folder/ready" ] && kill -0 $job; do sleep 0.1; done
        kill "-$4" $job
    fi
    wait $job
    got="$? $(cat requeued 2>/dev/null) $(cat cancelled 2>/dev/null)"
    check "$1, csc-train's arguments" "$(cat calls)" "net.yaml train.lr=0.2 --resume=auto"
}

while IFS='|' read -r name file code signal state wanted; do
    run "$name" "$file" "$code" "$signal" "$state"
    check "$name" "$got" "$wanted"
done <<'EOS'
done|one-node.sbatch|0|no|RUNNING|0  
bad configuration|one-node.sbatch|2|no|RUNNING|2  
bad data|nodes.sbatch|65|no|RUNNING|65  
stopped by itself|nodes.sbatch|75|no|RUNNING|0 requeue 42 
time limit|one-node.sbatch|75|USR1|RUNNING|0 requeue 42 
preempted in time of grace|one-node.sbatch|75|TERM|RUNNING|0 requeue 42 
time is up|one-node.sbatch|75|TERM|COMPLETING TimeLimit|0 requeue 42 
requeued by the operator|one-node.sbatch|75|TERM|COMPLETING requeued|0  
cancelled|one-node.sbatch|75|TERM|COMPLETING|75  
time is up, seen late|one-node.sbatch|75|TERM|TIMEOUT TimeLimit|0 requeue 42 
asked before csc-train was ready|nodes.sbatch|138|USR1|RUNNING|0 requeue 42 
asked before mpirun was ready|nodes.sbatch|244|USR1|RUNNING|0 requeue 42 
not finite when asked to stop|nodes.sbatch|87|USR1|RUNNING|87  
EOS

touch "$folder/busy" # once
run "scontrol is busy" one-node.sbatch 75 no RUNNING
check "scontrol is busy" "$got" "0 requeue 42 "

export SLURM_ARRAY_JOB_ID=40
run "chain goes on" chain.sbatch 75 USR1 RUNNING
check "chain goes on" "$got" "75  "
run "chain is done" chain.sbatch 0 no RUNNING
check "chain is done" "$got" "0  --state=PENDING 40"
run "chain is broken" chain.sbatch 2 no RUNNING
check "chain is broken" "$got" "2  --state=PENDING 40"
unset SLURM_ARRAY_JOB_ID

# Lost ranks: tried again while there are new checkpoints, five times without one.
for checkpoint in 1 2; do
    mkdir -p "run/checkpoints/step-0000000$checkpoint"
    for attempt in 1 2 3 4; do
        run "lost $checkpoint.$attempt" nodes.sbatch 69 no RUNNING
        check "lost $checkpoint.$attempt" "$got" "0 requeue 42 "
    done
done
run "lost 2.5" nodes.sbatch 69 no RUNNING
check "lost 2.5" "$got" "69  "
check "record of lost ranks" "$(grep -c 'exit code 69, newest checkpoint step-00000002$' csc-slurm-42.lost)" 5

CODE=0 WAIT=0 bash "$scripts/csc-slurm" --launch 'env LAUNCHED=yes' net.yaml >/dev/null
check "--launch" "$(tail -n 1 calls)" "net.yaml --resume=auto"
env -u SLURM_JOB_ID bash "$scripts/csc-slurm" net.yaml >/dev/null 2>&1
check "outside a job" $? 2
bash "$scripts/csc-slurm" --chain net.yaml >/dev/null 2>&1
check "a chain without an array" $? 2
echo "$failures failures"
[ $failures = 0 ]
