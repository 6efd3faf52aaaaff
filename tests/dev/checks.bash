# The parts of `./dev test` but integration. Each records its cases and prints what a reader needs when one fails.

# ---- lint: each tool is a case

part_lint() {
    make_copy
    cd "$copy"
    export PATH=$tools/bin:$PATH ANSIBLE_COLLECTIONS_PATH=$scratch/copy
    record_tool lint "ruff check" ruff check --no-cache plugins tests bench
    record_tool lint "ruff format" ruff format --no-cache --diff plugins tests bench
    record_tool lint yamllint yamllint --strict .
    record_tool lint ansible-lint lint_ansible
    record_tool lint shellcheck lint_shell
    record_tool lint "changelog fragments" antsibull-changelog lint
}

# It would write its own copy of the collection beside our files, and look for newer versions on the network.
lint_ansible() { ansible-lint --offline --strict --nocolor -q; }

# Every file that begins as a shell script, and what these read in.
lint_shell() {
    local file scripts=()
    while IFS= read -r -d '' file; do
        if [[ -f $file ]] && head -1 "$file" | grep -qE '^#!.*\b(ba)?sh\b'; then scripts+=("$file"); fi
    done < <(git ls-files -z --others --exclude-standard)
    shellcheck --check-sourced --external-sources --source-path=SCRIPTDIR "${scripts[@]}"
}

# ---- sanity: each test of ansible-test is a case

part_sanity() {
    local tests=() name status=0
    make_copy
    cd "$copy"
    for name in "$@"; do tests+=(--test "$name"); done
    python "$here/tests/sanity/seed_pip.py"
    # One of its tests is shellcheck, which is among the tools; the ansible-core that is tested comes first.
    PATH=$PATH:$tools/bin flock "$cache/sanity.lock" \
        ansible-test sanity --local --requirements --python "$python" --junit --color no "${tests[@]}" "${extra[@]}" 2>&1 |
        without_pip || status=$?
    record_junit sanity tests/output/junit/*.xml
    return "$status"
}

# The first run installs much, and ansible-test lets pip talk.
without_pip() {
    sed --unbuffered -E '/^(Looking in|Collecting|Installing collected|Successfully installed|Requirement already|Using cached pip)/d
        /^(Downloading|Saved|Processing|Obtaining|WARNING: Location)/d; /^( {2,}|$)/d; /^Installing requirements for/d'
}

# ---- units, kernel: pytest

part_units() { run_pytest units python tests/unit "$@"; }

part_kernel() {
    if ((EUID)); then die "the kernel tests need root"; fi
    run_pytest kernel /usr/bin/python3 tests/kernel "$@"
}

# A test that waits for ever fails by its name, with every thread's stack, and the others still run.
readonly test_seconds=300

# Names choose files below the folder: `units test_btf` is tests/unit/test_btf.py.
run_pytest() {
    local part=$1 interpreter=$2 folder=$3 files=() name status=0
    shift 3
    for name in "$@"; do
        name=$folder/$(basename "$name" .py).py
        if [[ -e $here/$name ]]; then files+=("$name"); fi
    done
    if (($# && ${#files[@]} == 0)); then die "no file of $folder is named ${*}"; fi
    if ((${#files[@]} == 0)); then files=("$folder"); fi
    cd "$here"
    PYTHONPATH=$link "$interpreter" -m pytest -q -rs -p no:cacheprovider --timeout="$test_seconds" \
        --junitxml="$scratch/$part.xml" "${files[@]}" "${extra[@]}" || status=$?
    record_junit "$part" "$scratch/$part.xml"
    return "$status"
}

# ---- docs: what ansible-doc and Galaxy will show

part_docs() {
    local file
    make_copy
    cd "$copy"
    export PATH=$tools/bin:$PATH ANSIBLE_COLLECTIONS_PATH=$scratch/copy
    record_tool docs "antsibull-docs" antsibull-docs lint-collection-docs --plugin-docs \
        --validate-collection-refs=all --disallow-unknown-collection-refs .
    for file in plugins/modules/*.py; do
        if [[ -e $file ]]; then record_tool docs "ansible-doc $(basename "$file" .py)" module_doc "$(basename "$file" .py)"; fi
    done
    for file in roles/*/meta/argument_specs.yml; do
        file=${file#roles/}
        if [[ -e roles/$file ]]; then record_tool docs "ansible-doc ${file%%/*}" role_doc "${file%%/*}"; fi
    done
}

module_doc() { shows "ebpf.deploy.$1" ansible-doc --type module; }
role_doc() { shows "ebpf.deploy.$1" ansible-doc --type role; }

# The name is in the page, and nothing is on stderr, but for what ansible-core 2.21 says of a part of its own.
shows() {
    local name=$1
    shift
    "$@" "$name" 2>"$scratch/doc.err" | grep "${name##*.}"
    if grep -v '/_protomatter' "$scratch/doc.err"; then return 1; fi
}

# ---- package: the archive, as Galaxy gets it and as a user installs it

# What may be in it; everything else is a stray.
readonly packed='^(MANIFEST\.json|FILES\.json|README\.md|CHANGELOG\.md|CONTRIBUTING\.md|COPYING'\
'|(LICENSES|bpf|docs|meta|playbooks|plugins|roles)/.+|changelogs/changelog\.yaml|tests/config\.yml)$'

part_package() {
    make_copy
    cd "$copy"
    record_tool package build ansible-galaxy collection build --output-path "$scratch/package"
    archive=$(echo "$scratch"/package/*.tar.gz)
    record_tool package "no stray files" no_strays
    record_tool package "installs and lists its modules" works_installed
    record_tool package galaxy-importer import_to_galaxy
}

no_strays() { ! tar --list --file "$archive" | grep -v '/$' | grep -vE "$packed|^changelogs$|^tests$"; }

works_installed() {
    local place=$scratch/installed
    ANSIBLE_COLLECTIONS_PATH=$place ansible-galaxy collection install --offline -p "$place" "$archive"
    diff <(find plugins/modules -name '[!_]*.py' -exec basename {} .py \; 2>/dev/null | sort) \
        <(cd / && ANSIBLE_COLLECTIONS_PATH=$place ansible-doc --list ebpf.deploy 2>/dev/null | sed 's/ebpf.deploy.\([^ ]*\).*/\1/' | sort)
}

# Galaxy's own checks. It unpacks elsewhere and runs ansible-lint there.
import_to_galaxy() {
    printf '[galaxy-importer]\nCHECK_REQUIRED_TAGS=True\nRUN_ANSIBLE_TEST=False\n' >"$scratch/importer.cfg"
    cd "$scratch"
    PATH=$tools/bin:$PATH GALAXY_IMPORTER_CONFIG=$scratch/importer.cfg python -m galaxy_importer.main "$archive"
}
