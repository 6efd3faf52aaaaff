# What tests and demo stand on: system packages, a Python with ansible-core, and the checkout seen as a collection.
# Everything that is built lies in the user's cache, never in the checkout: a space in its path would break venvs, and
# ansible-test would read them as our files.

readonly cache=${XDG_CACHE_HOME:-$HOME/.cache}/ebpf.deploy

# The Pythons that each ansible-core runs on as controller: newest core first; core, oldest, newest.
readonly controllers="
2.21 12 14
2.20 12 14
2.19 11 13
2.18 11 13
2.17 10 12
2.16 10 12"

# What must be there: the parts that want it (run: demo, lab, bench), a command that succeeds when it is, Debian's package.
readonly system_needs="
run units kernel integration lab: command -v clang: clang
run kernel integration units lab: test -e /usr/include/bpf/bpf_helpers.h: libbpf-dev
run units kernel integration lab: command -v bpftool: bpftool
run kernel integration lab: command -v ip: iproute2
kernel integration: command -v sudo: sudo
run kernel integration: command -v mount: mount
run kernel integration lab: has_module pyroute2: python3-pyroute2
kernel: has_module pytest: python3-pytest
kernel: has_module pytest_timeout: python3-pytest-timeout
kernel integration: has_module bcc: python3-bpfcc
run kernel integration lab: command -v sshd || test -x /usr/sbin/sshd: openssh-server
run kernel integration lab: command -v ssh: openssh-client
run lab: command -v ping: iputils-ping
run lint sanity units integration package docs lab: has_module ensurepip: python3-venv
lint sanity package docs: command -v git: git"

# Everything that these parts (or `run`) need; afterwards $venv, $tools, $link and the environment are set.
prepare() {
    PATH=$PATH:/usr/sbin:/sbin
    install_packages "$@"
    choose_versions
    make_venv "$venv" "$venv_python" "ansible-core~=$core.0" "$here/tests/unit/requirements.txt"
    case " $* " in *" lint "* | *" sanity "* | *" package "* | *" docs "*) make_tools ;; esac
    make_link
    enter_environment
}

# ---- packages

has_module() { /usr/bin/python3 -c "import importlib.util as u, sys; sys.exit(u.find_spec('$1') is None)" 2>/dev/null; }

missing_packages() {
    local parts check package wanted
    while IFS=: read -r parts check package; do
        for wanted in "$@"; do
            if [[ " $parts " == *" $wanted "* ]]; then
                eval "$check" >/dev/null 2>&1 || printf '%s\n' "${package# }"
                break
            fi
        done
    done <<<"${system_needs#$'\n'}"
}

install_packages() {
    local missing log=$cache/apt.log
    mapfile -t missing < <(missing_packages "$@")
    if ((${#missing[@]} == 0)); then return; fi
    if ((EUID)) || ! command -v apt-get >/dev/null; then
        die "missing: ${missing[*]} (Debian's names). Install them, or run as root on Debian or Ubuntu."
    fi
    say "installing with apt-get: ${missing[*]}"
    mkdir -p "$cache"
    if ! { apt_get update && apt_get install --no-install-recommends "${missing[@]/#bpftool/$(bpftool_package)}"; } >"$log" 2>&1
    then
        tail -20 "$log" >&2
        die "apt-get could not install: ${missing[*]}"
    fi
}

apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300 "$@" </dev/null; }

# Ubuntu has it with the tools of each kernel; there the name alone is a virtual package, which cannot be installed.
bpftool_package() {
    if LC_ALL=C apt-cache policy bpftool | grep 'Candidate: [^(]' >/dev/null; then say bpftool; else say "linux-tools-$(uname -r)"; fi
}

# ---- Python

# Settle $core and $python, as far as they are not given: the newest pair that can be had here.
choose_versions() {
    local known oldest newest minor
    while read -r known oldest newest; do
        if [[ $core && $core != "$known" ]]; then continue; fi
        for ((minor = newest; minor >= oldest; minor--)); do
            if [[ $python && $python != "3.$minor" ]]; then continue; fi
            if venv_python=$(find_python "3.$minor"); then
                core=$known python=3.$minor venv=$cache/venv-$core-$python
                return
            fi
        done
    done <<<"${controllers#$'\n'}"
    die "found no Python ${python:-3.10 to 3.14} that can run ansible-core ${core:-2.16 or newer} (on PATH or in pyenv)"
}

# The path of a Python of this version that works (a pyenv shim may not), can make a venv and is not in one itself: with a
# venv of ours on PATH, ours would be made anew from it, under the feet of other runs.
find_python() {
    local candidate is_usable='import ensurepip, sys
sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1] or sys.prefix != sys.base_prefix)'
    while read -r candidate; do
        if "$candidate" -c "$is_usable" "$1" 2>/dev/null
        then
            say "$candidate"
            return
        fi
    done < <(type -aP "python$1"; compgen -G "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1*/bin/python$1")
    return 1
}

# make_venv FOLDER PYTHON PACKAGE REQUIREMENTS: a venv with these, made once, and again when what is wanted changes.
make_venv() {
    local folder=$1 python=$2 package=$3 requirements=$4 wanted
    wanted=$(printf '%s\n' "$python" "$package" && cat "$requirements")
    mkdir -p "$cache"
    (
        flock 9
        if [[ -e $folder/complete && $(<"$folder/complete") == "$wanted" ]]; then exit; fi
        say "making $folder"
        rm -rf "$folder"
        "$python" -m venv "$folder"
        "$folder/bin/python" -m pip install -q --disable-pip-version-check "$package" -r "$requirements" \
            >"$folder/pip.log" 2>&1 || { cat "$folder/pip.log" >&2 && die "pip could not fill $folder"; }
        say "$wanted" >"$folder/complete"
    ) 9>"$folder.lock"
}

# The tools live in a venv of their own, with the newest Python and the ansible-core that suits them, whatever is tested.
make_tools() {
    local core="" python="" venv="" venv_python=""
    choose_versions
    tools=$cache/tools-$core-$python
    make_venv "$tools" "$venv_python" "ansible-core~=$core.0" "$here/requirements-dev.txt"
}

# ---- the checkout as a collection

path_hash() { printf '%s' "$1" | sha256sum | cut -c 1-12; }

# Playbooks, ad-hoc commands and pytest see the checkout itself, through a symlink at the place that Ansible expects.
make_link() {
    link=$cache/link-$(path_hash "$here")
    mkdir -p "$link/ansible_collections/ebpf"
    ln -sfn "$here" "$link/ansible_collections/ebpf/deploy"
}

# ansible-test, ansible-lint and the build take no symlink: they get a copy of what git would commit, and its own git.
make_copy() {
    copy=$scratch/copy/ansible_collections/ebpf/deploy
    if [[ -e $copy ]]; then return; fi
    mkdir -p "$copy"
    (
        cd "$here"
        existing_files | tar --create --null --files-from=- | tar --extract --directory="$copy" --no-same-owner
    )
    git init -q "$copy"
}

# What git has or would take, without what is deleted just now.
existing_files() {
    local path
    git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
        while IFS= read -r -d '' path; do
            if [[ -e $path || -L $path ]]; then printf '%s\0' "$path"; fi
        done
}

# Nothing of the user's own Ansible settings counts; all that is asked for is in one file.
enter_environment() {
    unset PYTHONPATH "${!ANSIBLE_@}"
    export PATH=$venv/bin:$PATH LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 NO_COLOR=1
    export ANSIBLE_COLLECTIONS_PATH=$link ANSIBLE_CONFIG=$here/tests/integration/integration.cfg
}
