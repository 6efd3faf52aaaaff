# What a run says, and how it counts: a line per case in $results, summed up at the end.

# Make the run's own folder, which goes away with the run.
begin_report() {
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/ebpf-deploy-test.XXXXXX")
    results=$scratch/results
    : >"$results"
    trap 'rm -rf "$scratch"' EXIT
}

say() { printf '%s\n' "$*"; }

die() {
    printf '%s\n' "dev: $*" >&2
    exit 2
}

# record passed|failed|skipped PART NAME
record() { printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$results"; }

# Every case of these JUnit files, under the name of a part.
record_junit() {
    local part=$1
    shift
    /usr/bin/env python3 "$here/tests/dev/junit_cases.py" "$part" "$@" >>"$results"
}

# A tool that is one case: its output is shown only where it failed, or with -v.
record_tool() {
    local part=$1 name=$2 log=$scratch/tool.log status
    shift 2
    set +e # so that it holds inside: bash ignores it in a function that is a condition
    (set -e; "$@") >"$log" 2>&1
    status=$?
    set -e
    if ((status == 0)); then
        if [[ $verbose ]]; then cat "$log"; fi
        record passed "$part" "$name"
        say "ok      $name"
    else
        cat "$log"
        record failed "$part" "$name"
        say "FAILED  $name"
    fi
}

# Run part_NAME in a shell of its own; one that stops without a failed case counts as one.
run_part() {
    local part=$1 status=0 started=$SECONDS current_part=$1
    shift
    say "== $part"
    set +e
    (set -e; "part_$part" "$@")
    status=$?
    set -e
    if ((status)) && ! grep -q "^failed"$'\t'"$part"$'\t' "$results"; then
        record failed "$part" "stopped with status $status"
    fi
    say "-- $part: $((SECONDS - started)) s"
}

count() { grep -c "^$1" "$results" || true; }

# Name what failed, then the sum in the last line; the status says whether all is well.
end_report() {
    local passed failed skipped
    passed=$(count passed) failed=$(count failed) skipped=$(count skipped)
    say ""
    sed -n $'s/^failed\t\\([^\t]*\\)\t/failed: \\1: /p' "$results"
    printf '%s passed, %s failed' "$passed" "$failed"
    if ((skipped)); then printf ', %s skipped' "$skipped"; fi
    printf '\n'
    ((failed == 0))
}
