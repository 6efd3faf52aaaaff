# The same on other hosts: machines with other kernels over SSH, side by side where the memory allows it, then a fleet. Each has a session of its own: some
# targets, and the kernel tests run on the machine itself. Which cases these are is in tests/lab/sessions.

readonly sessions=$here/tests/lab/sessions fleet_size=20

part_lab() {
    if ((EUID)); then die "the lab needs root"; fi
    export TMPDIR=$scratch
    trap 'the_lab down >/dev/null' EXIT
    if ((available_mb >= enough_mb)); then
        the_lab up --until-pid $$
        side_by_side vm61 vm612
    else
        say "one machine after the other: $available_mb MB of memory are available, two at once want $enough_mb"
        the_lab up 6.1 --until-pid $$
        side_by_side vm61
        the_lab up 6.12 --until-pid $$
        side_by_side vm612
    fi
    fleet_session
    expect_enough
}

readonly enough_mb=4096
available_mb=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)

# The sessions of these machines, which are up, at the same time; then the machines go down.
side_by_side() {
    local machine pids=()
    inventory=$(the_lab inventory)
    for machine in "$@"; do
        (machine_session "$machine") >"$scratch/$machine.out" 2>&1 &
        pids+=($!)
    done
    for machine in "$@"; do
        wait "${pids[0]}" || record failed lab "the session of $machine stopped"
        pids=("${pids[@]:1}")
        cat "$scratch/$machine.out"
    done
    record_tool lab "a killed machine is told on $machine" tells_of_death "$machine"
    the_lab down >/dev/null
}

the_lab() { "$here/tests/lab/lab" "$@"; }

# Words of a session's line: its targets, its files of tests/kernel, the least number of cases that must have run there.
session() { sed -n "s/^$1 $2: *//p" "$sessions"; }

machine_session() {
    local name
    place=vm limit=$1 watch=("$here/tests/lab/lab" run "$1" --)
    export ANSIBLE_ROLES_PATH=$targets ANSIBLE_INVENTORY=$inventory
    for name in $(session "$1" targets); do
        check_target "$name"
    done
    kernel_tests_on "$1"
    ends_of "$1"
}

# What only happens from outside: power cuts, other kernels on the same disk (tests/lab/power).
ends_of() {
    local machine=$1 parts outcome name status=0
    read -r -a parts <<<"$(session "$machine" power)"
    if ((${#parts[@]} == 0)); then return; fi
    "$here/tests/lab/power" "$machine" "${parts[@]}" >"$scratch/$machine.power" 2>"$scratch/$machine.power.log" || status=$?
    if ((status)); then record failed lab "tests/lab/power stopped on $machine"; fi
    while IFS=$'\t' read -r outcome name; do
        record "$outcome" lab "$name on $machine"
    done <"$scratch/$machine.power"
    if [[ $verbose || $status != 0 ]] || grep -qv ^passed "$scratch/$machine.power"; then cat "$scratch/$machine.power.log"; fi
}

# The collection and its tests travel to the machine, as root's own, and pytest's report comes back.
kernel_tests_on() {
    local machine=$1 files only status=0
    read -r -a files <<<"$(session "$machine" kernel)"
    if ((${#files[@]} == 0)); then return; fi
    only=$(session "$machine" only)
    if [[ $only ]]; then only="-k ${only@Q}"; fi
    (cd "$here" && existing_files | grep -zE '^(plugins|bpf|tests/(kernel|unit))/' | tar --create --null --files-from=-) |
        the_lab ssh "$machine" 'mkdir -p try/ansible_collections/ebpf/deploy && tar -xC try/ansible_collections/ebpf/deploy'
    if [[ ${files[*]} == *test_refusals* ]]; then refusals_for "$machine"; fi
    the_lab run "$machine" -- "$here/tests/lab/lab" ssh "$machine" \
        "cd try/ansible_collections/ebpf/deploy && PYTHONPATH=/root/try timeout 1800 python3 -m pytest -q -rs -p no:cacheprovider" \
        "--junitxml=/root/kernel.xml $only ${files[*]/#/tests/kernel/}" || status=$?
    the_lab ssh "$machine" cat /root/kernel.xml >"$scratch/$machine.xml"
    /usr/bin/env python3 "$here/tests/dev/junit_cases.py" lab "$scratch/$machine.xml" | sed "s/\$/ on $machine/" >>"$results"
    return "$status"
}

# Eighty small programs: compiled here against the machine's own types, since a compiler takes seconds for each there.
refusals_for() {
    local machine=$1 objects=$scratch/$1.refusals
    mkdir -p "$objects"
    the_lab ssh "$machine" bpftool btf dump file /sys/kernel/btf/vmlinux format c >"$objects/vmlinux.h"
    python3 "$here/tests/kernel/refusals/compile.py" "$objects/vmlinux.h" "$here/tests/kernel/refusals" "$objects"
    rm "$objects/vmlinux.h"
    tar --create --directory="$objects" . |
        the_lab ssh "$machine" 'cd try/ansible_collections/ebpf/deploy/tests/kernel/refusals && mkdir -p objects && tar -xC objects'
}

# A machine that dies makes the command that uses it fail at once, with the console's last lines.
tells_of_death() {
    local machine=$1 status=0
    (sleep 3 && pkill -KILL -f "qemu-system.*/machines/$machine/") &
    timeout 60 "$here/tests/lab/lab" run "$machine" -- sleep 50 >"$scratch/death" 2>&1 || status=$?
    cat "$scratch/death"
    ((status == 70)) && grep -q "$machine" "$scratch/death" && (($(wc -l <"$scratch/death") > 10))
}

fleet_session() {
    local name
    place=fleet limit=fleet watch=()
    the_lab fleet "$fleet_size" --until-pid $$
    inventory=$(the_lab inventory)
    export ANSIBLE_ROLES_PATH=$targets ANSIBLE_INVENTORY=$inventory ANSIBLE_FORKS=10
    for name in $(session fleet targets); do
        check_target "$name"
    done
}

# Nothing goes missing silently: each place has had at least as many cases as are committed for it.
expect_enough() {
    local name least ran
    for name in vm61 vm612 fleet; do
        least=$(session "$name" least)
        ran=$(grep -cE "^(passed|failed)"$'\t'"lab"$'\t'".* on $name\$" "$results" || true)
        say "$name: $ran cases (at least $least)"
        if ((ran < least)); then record failed lab "only $ran of $least cases ran on $name"; fi
    done
}
