# Integration targets, in tests/integration/targets: folders as ansible-test knows them, a role or a runme.sh each. Those named
# setup_… are roles for others. A target runs where its `aliases` allow it: needs/native (this machine, a private host for
# each target), needs/vm, needs/fleet; native if it says nothing. `expects/warnings`: Ansible may print some.

readonly targets=$here/tests/integration/targets
readonly target_seconds=1200

part_integration() {
    local name names=()
    place=${place:-${inventory:+vm}}
    place=${place:-native}
    if [[ $place == native && $EUID != 0 ]]; then die "integration targets on this machine need root"; fi
    if [[ $place != native && -z $inventory ]]; then die "--place $place needs --inventory"; fi
    for name in "$@"; do
        if [[ ! -d $targets/$name ]]; then die "no such target: $name"; fi
    done
    mapfile -t names < <(chosen_targets "$@")
    if ((${#names[@]} == 0)); then die "no target for $place: ${*:-none there}"; fi
    if [[ $place == native ]]; then native_inventory; fi
    export ANSIBLE_ROLES_PATH=$targets ANSIBLE_INVENTORY=$inventory
    for name in "${names[@]}"; do
        check_target "$name"
    done
}

native_inventory() {
    inventory=$scratch/inventory
    say "localhost ansible_connection=local ansible_python_interpreter=/usr/bin/python3" >"$inventory"
}

# The targets named, else all, as far as they fit the place.
chosen_targets() {
    local folder name
    for folder in "$targets"/*/; do
        name=$(basename "$folder")
        if [[ $name == setup_* || $name == '*' ]]; then continue; fi
        if (($#)) && [[ " $* " != *" $name "* ]]; then continue; fi
        if fits_place "$folder/aliases"; then say "$name"; fi
    done
}

fits_place() {
    if [[ ! -e $1 ]] || ! grep -qE '^needs/(native|vm|fleet)$' "$1"; then [[ $place == native ]] && return; fi
    grep -qx "needs/$place" "$1" 2>/dev/null
}

has_alias() { grep -qx "$2" "$targets/$1/aliases" 2>/dev/null; }

# One line for one target; its output only where it failed.
check_target() {
    local name=$1 log=$scratch/$1-${limit:-$place}.log host=() command=() started=$SECONDS outcome=passed
    if [[ $place == native ]]; then host=("$here/tests/dev/private-host"); else host=("${watch[@]}"); fi
    target_command "$name"
    "${host[@]}" timeout --kill-after=20 "$target_seconds" "${command[@]}" >"$log" 2>&1 </dev/null || outcome=failed
    if ! has_alias "$name" expects/warnings && grep -E '^\[(DEPRECATION )?WARNING\]' "$log" >"$log.warnings"; then
        outcome=failed
        say "$name made Ansible warn" >>"$log"
    fi
    if [[ $outcome == failed || $verbose ]]; then cat "$log"; fi
    record "$outcome" "${current_part:-integration}" "$name on ${limit:-$place}"
    printf '%-7s %s, %s s\n' "${outcome/passed/ok}" "$name" "$((SECONDS - started))"
}

# Set `command`: the target's own script, or a play of its role on all hosts.
target_command() {
    local options=(${limit:+"--limit=$limit"} "${extra[@]}")
    if [[ -e $targets/$1/runme.sh ]]; then
        command=(env --chdir="$targets/$1" ./runme.sh "${options[@]}")
    else
        say "[{hosts: all, gather_facts: false, roles: [$1]}]" >"$scratch/$1.yml"
        command=(ansible-playbook "${options[@]}" "$scratch/$1.yml")
    fi
}
