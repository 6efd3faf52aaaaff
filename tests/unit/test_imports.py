# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What imports what, read from the sources: the core's layers, its one binding, its one mover of hooks, its weight.

Every import statement ships its file to the host, in functions and under TYPE_CHECKING too, so all are counted.
"""

from __future__ import annotations

import ast
import pathlib

import pytest

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import code
from ansible_collections.ebpf.deploy.plugins.module_utils._core.hooks import contract

PLUGINS = pathlib.Path(__file__).parents[2] / "plugins"
CORE = "module_utils._core."
LAYERS = ("errors", "kernel", "objects", "hooks", "deployment", "command")  # each imports those before it, and itself

# What a task carries of ours, in KB (module_utils alone): it shall grow in review, not by chance. See test_weight.
WEIGHT = {
    "modules.bpf_attach": 860,
    "modules.bpf_host": 894,
    "modules.bpf_info": 352,
    "modules.bpf_map": 512,
    "modules.bpf_program": 1012,
    "modules.bpf_release": 484,
    "module_utils._core.deployment.apply": 325,
    "module_utils._core.deployment.guard": 517,
    "module_utils._core.deployment.boot": 866,
    "module_utils._core.command": 887,
}
SLACK = 0.10

WAY_BACK = ("deployment.apply", "deployment.guard", "deployment.trial", "deployment.transitions")
NEEDS_NO = (
    "objects.source",
    "objects.bcc",
    "objects.elf",
    "objects.verifier",
    "objects.tracing",
    "objects.blame",
    "objects.diagnosis",
    "objects.rules.",
    "objects.lint",
    "objects.stores",
    "objects.bytecode",
    "kernel.btf",
)

ON_THE_CONTROLLER = ("action.", "doc_fragments.", "plugin_utils.")
MOVERS = {
    "link_create",
    "link_update",
    "link_detach",
    "netfilter_link",
    "perf_event_link",
    "raw_tracepoint_link",
    "tc_attach",
    "tc_detach",
}
CHANGES = ("put_on", "replace", "take_off", "attach", "swap", "detach")  # of a contract.Hook


def name_of(path):
    return ".".join(path.relative_to(PLUGINS).with_suffix("").parts)


FILES = {name_of(path): path for path in sorted(PLUGINS.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}
CORE_FILES = [name for name in FILES if name.startswith(CORE)]


def imported(name):
    """Dotted names that the file imports: ours relative to plugins, `ctypes` or `ansible.…` as they are."""
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in FILES else base for alias in node.names}
    return found


IMPORTS = {name: imported(name) for name in FILES}


def closure(name):
    """The file and every file of ours that comes along with it."""
    found, waiting = set(), [name]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += [other for other in IMPORTS[each] if other in FILES]
    return found


def layer(name):
    return LAYERS.index(name[len(CORE) :].split(".")[0])


def calls(name):
    """(what stands before the dot, name) of each call of an attribute."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield ast.unparse(node.func.value), node.func.attr


@pytest.mark.parametrize("name", CORE_FILES)
def test_core_imports_downwards_only(name):
    ours = [other for other in IMPORTS[name] if other.startswith(CORE)]
    assert [other for other in ours if layer(other) > layer(name)] == []
    assert name not in {other for each in ours for other in closure(each)}, "it imports itself, round about"


@pytest.mark.parametrize("name", CORE_FILES)
def test_core_imports_relatively_and_nothing_of_ansible(name):
    foreign = {each.split(".")[0] for each in IMPORTS[name] if each not in FILES}
    assert not foreign & {"ansible", "ansible_collections"}


def test_module_utils_know_ansible_by_one_file():
    knowing = [name for name in FILES if any(each.startswith("ansible") for each in IMPORTS[name])]
    assert [name for name in knowing if not name.startswith(ON_THE_CONTROLLER)] == ["module_utils._module"]


def test_ctypes_is_known_by_one_file():
    assert [name for name in FILES if "ctypes" in IMPORTS[name]] == [CORE + "kernel.libbpf"]


def test_libbpf_is_called_by_the_kernel_and_the_objects_alone():
    """Above them nothing but questions for its version."""
    for name in CORE_FILES:
        if layer(name) > LAYERS.index("objects"):
            assert {attribute for room, attribute in calls(name) if room == "libbpf"} <= {"version"}, name


@pytest.mark.parametrize("name", ["records", "declared", "steps", "plan", "ways"])
def test_what_is_pure_reaches_no_disk(name):
    on_the_way = {each[len(CORE) :] for each in closure(CORE + "deployment." + name) if each.startswith(CORE)}
    assert not on_the_way & {"deployment.store", "deployment.lock", "deployment.observe", "deployment.apply"}


@pytest.mark.parametrize("name", WAY_BACK)
def test_way_back_needs_no_compiler_and_no_verifier(name):
    on_the_way = {each[len(CORE) :] for each in closure(CORE + name) if each.startswith(CORE)}
    assert [each for each in on_the_way if each.startswith(NEEDS_NO)] == []


def test_no_import_by_a_computed_name():
    """It would find nothing on the host: only what a statement names is sent there."""
    for name in (each for each in FILES if not each.startswith(ON_THE_CONTROLLER)):
        assert not IMPORTS[name] & {"importlib", "pkgutil"}, name
        called = {node.func.id for node in ast.walk(TREES[name]) if hasattr(getattr(node, "func", None), "id")}
        assert "__import__" not in called, name


def test_links_are_moved_by_hooks_alone():
    moving = {name for name in FILES for dummy, attribute in calls(name) if attribute in MOVERS}
    moving -= {CORE + "kernel.bpf"}
    assert moving
    assert {name.rpartition(".")[0] for name in moving} == {CORE + "hooks"}


def test_hooks_are_moved_by_apply_alone():
    """Whoever else calls what changes a hook would go round the plan, the trace and the undoing."""
    moving = {
        name
        for name in FILES
        for room, attribute in calls(name)
        if attribute in CHANGES and ("hook" in room.lower() or "catalogue" in room)
    }
    assert moving == {CORE + "deployment.apply"}
    assert set(CHANGES) <= set(vars(contract.Hook))


def test_links_are_pinned_by_apply_and_hold_and_programs_by_their_loader():
    pinning = {name for name in FILES for call in calls(name) if call == ("bpf", "pin")}
    assert pinning == {CORE + each for each in ("deployment.apply", "deployment.hold", "objects.bcc", "objects.elf")}


def test_steps_are_carried_out_under_the_lock_by_few():
    """apply.carry_out checks the lock; those who call it take it."""
    callers = {name for name in FILES for call in calls(name) if call == ("apply", "carry_out")}
    assert callers == {CORE + "deployment." + each for each in ("stage", "transitions", "trial")}


STARTS = {"run", "Popen", "call", "check_call", "check_output"}


def test_programs_are_started_with_an_environment_of_ours():
    """And from kernel/tools.py's places: PATH and the rest of the caller's are anybody's. What systemd tells a service
    stands there, too: keeper.py reads that."""
    started = [
        (name, node)
        for name in CORE_FILES
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Call) and ast.unparse(node.func).removeprefix("subprocess.") in STARTS
        if ast.unparse(node.func).startswith("subprocess.")
    ]
    assert started
    for name, node in started:
        environment = next((ast.unparse(each.value) for each in node.keywords if each.arg == "env"), "")
        assert "tools.ENVIRONMENT" in environment, f"{name}:{node.lineno}"
    around = {"shutil.which", "os.system", "os.popen", "os.execvp", "os.execlp", "os.posix_spawnp", "os.environ"}
    found = {(name, each) for name in CORE_FILES for each in around if each in ast.unparse(TREES[name])}
    assert found <= {(CORE + "deployment.keeper", "os.environ")}


def test_python_is_started_isolated():
    """-I: the current folder, PYTHONPATH and a user's own packages are anybody's."""
    literals = [(name, node) for name in CORE_FILES for node in ast.walk(TREES[name]) if isinstance(node, ast.List)]
    commands = [(name, [ast.unparse(each) for each in node.elts]) for name, node in literals]
    assert [name for name, words in commands if "'-c'" in words and "python" in words[0] and "'-I'" not in words] == []
    assert "exec {python} -I -c" in code.RUN
    naming = {name for name in CORE_FILES if "sys.executable" in ast.unparse(TREES[name])}
    assert naming == {CORE + "kernel.tools", CORE + "deployment.code"}


@pytest.mark.parametrize("name", WEIGHT)
def test_weight_of_what_travels_is_as_reviewed(name):
    """Compiling what was imported costs each task 0.1 ms per KB. Grown on purpose: write the new figure down."""
    weight = sum(FILES[each].stat().st_size for each in closure(name) if each.startswith("module_utils.")) / 1000
    reviewed = WEIGHT[name]
    assert abs(weight - reviewed) <= SLACK * reviewed, f"{weight:.0f} KB: {', '.join(sorted(closure(name)))}"


def test_every_module_has_its_weight_written_down():
    assert {name for name in FILES if name.startswith("modules.")} <= set(WEIGHT)


@pytest.mark.parametrize("start", [code.COMMAND, code.GUARD])
def test_what_is_started_on_the_host_finds_there_all_that_it_imports(start):
    wanted = {each[len(CORE) :].replace(".", "/") + ".py" for each in closure(CORE + start[:-3].replace("/", "."))}
    assert {name for name in code.reached(start) if not name.endswith("__init__.py")} == wanted


def test_core_has_no_package_files():
    assert list((PLUGINS / "module_utils").rglob("__init__.py")) == []
