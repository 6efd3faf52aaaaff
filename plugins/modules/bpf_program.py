#!/usr/bin/python
# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bpf_program
short_description: Compile, verify, load and stage an eBPF program
description:
  - Compiles C on the host (or takes an object as it is), has the host's own verifier judge it, loads its programs and
    maps, pins them and stages them for M(ebpf.deploy.bpf_attach). What runs at the hooks is not touched.
  - A release is one immutable build, named by the digest of what the kernel is given. The same source gives the same
    release from whatever folder and user. A release that is loaded already is neither compiled nor verified again.
  - Maps that the attached release has too are shared, so that their entries stay. A map that does not fit is refused,
    field by field.
  - In check mode the source is compiled in a temporary folder and judged by the real verifier, and nothing is left
    behind.
extends_documentation_fragment:
  - ebpf.deploy._common
  - ebpf.deploy._common.name
  - ebpf.deploy._common.rollout
attributes:
  action:
    support: full
    description: Has an action plugin, which ships the source inside the task.
options:
  src:
    description:
      - C source (its name ends in C(.c)) or a BPF object on the controller, looked for in C(files/) of role and
        playbook, then in the working directory.
      - C(NAMESPACE.COLLECTION.NAME) takes C(bpf/NAME.bpf.c) of an installed collection, for example
        V(ebpf.deploy.xdp_packet_counter).
      - Headers that the source includes by C(#include "…") from beside itself travel with it.
      - What ansible-vault encrypted (sources, headers, objects, signatures and their lists) is decrypted on the
        controller, as M(ansible.builtin.copy) does it.
      - With O(remote_src=true) a path on the host.
    type: path
  content:
    description: C source as text, or a BPF object in base64 as O(state=built) returns it, instead of O(src).
    type: str
  remote_src:
    description:
      - Whether O(src) is on the host.
      - It must be root's alone then, as its headers, its signature and O(btf) must. A file that another user owns or
        can write, or that lies below such a folder, is refused by name. Copy it as root to a folder of root's, or ship
        it from the controller.
    type: bool
    default: false
  state:
    description:
      - V(present) loads and stages.
      - V(verified) asks the verifier of this host and leaves nothing loaded.
      - V(built) compiles, and returns the object for other hosts, which take it as O(content).
      - V(absent) removes the deployment. Refused while something is attached; see M(ebpf.deploy.bpf_release).
    type: str
    choices: [present, verified, built, absent]
    default: present
  compiler:
    description:
      - What compiles C source. V(auto) takes clang.
      - V(bcc) takes source in BCC's dialect (C(BPF_HASH), C(map.lookup(&key))), in one file, and has the host's own
        BCC compile and load it. It needs the package C(python3-bpfcc) (Debian, Ubuntu) or C(python3-bcc) (Fedora, RHEL,
        SUSE). PyPI's C(bcc) is another project. Kernel headers are used where they are installed. Elsewhere the
        kernel's own types serve, and few of its macros.
      - BCC's dialect has no sections, so O(programs) says each program's type. Functions whose names begin with
        C(kprobe__), C(kretprobe__), C(tracepoint__) or C(raw_tracepoint__) have one. Types that are loaded for one
        function (V(tracing), V(lsm), V(ext)) are not taken.
      - There is no object then. So O(globals), O(btf), C(max_entries) in O(maps), C(states) and C(stack) in O(limits)
        and O(state=built) are refused, O(lint) says V(not_judged), and a boot compiles again, for which BCC must still
        be installed. Equal maps are shared on an upgrade as with V(clang), and C(on_change) works alike.
      - BCC creates the maps while it compiles. So when a host sees a source for the first time, they are there for a
        moment before they are compared with the memory and with O(limits). What does not fit is not loaded.
    type: str
    choices: [auto, clang, bcc]
    default: auto
  cflags:
    description:
      - Further flags for the compiler, after ours.
      - C(-D), C(-U), C(-O), C(-g), C(-W), C(-w), C(-std=), C(-mcpu=), C(-nostdinc), C(-pedantic), C(-mllvm -bpf-…), and
        such C(-f…) as change the code alone. C(-I), C(-iquote), C(-isystem) and C(-idirafter) take folders that are
        root's alone. All others are refused by name, since they could read, write or run other files.
      - The compiler gets a clean environment (no C(CPATH)) and 120 s. Each header that it reads must be root's alone on
        its whole path. C(.incbin), C(.include) and macros of the assembler are refused, and so is C(#embed).
    type: list
    elements: str
    default: []
  programs:
    description:
      - Programs of the object to load, each by its name or a shell pattern, or as a mapping that also says what it is.
      - Without an entry that chooses, all are loaded but for those that the source marks C(SEC("?…")).
      - C(name) is the program's name or a pattern.
      - C(type) is its program type by bpftool's name, such as V(xdp), where its section does not tell the right one.
      - C(attach_type) is its expected attach type by bpftool's name, such as V(cgroup_inet4_connect) or
        V(trace_fentry).
      - C(target) is the function that a program of type V(tracing), V(lsm) or V(ext) is loaded for, instead of the one
        in its section.
      - C(target_program) is the path that another program is pinned at, whose function C(target) is.
      - C(autoload=false) leaves the program out. Such an entry chooses nothing, so the others are all loaded. Any other
        entry chooses what it matches; add V(*) to keep the rest.
    type: list
    elements: raw
    default: []
  globals:
    description:
      - Values for global variables of the program, by name, set before it is loaded. C(const volatile) variables and
        the initial values of others.
      - The variable's type decides what a value may be. Numbers, booleans, the names of an enum, text for an array of
        char, lists for other arrays, mappings for structs. Fields of a struct that are not named keep what the source
        gives them; what is missing at the end of a list is zero.
      - A mapping of C(value) and, if need be, C(secret) is read as such. With C(secret=true) the value does not appear
        in results, diff, errors and logs, and lies on the host only where root alone may read it. Nobody finds it out
        by trying values either. RV(source_id) is made of its name alone, and RV(release) ends with digits that only
        this host can make, by a key in C(/var/lib/ebpf_deploy/.key). The verifier's figures may still depend on it. A
        struct with no other fields than these two is written within C(value) itself.
      - Where that key is lost, the host makes another, and the release is staged once more. What was thrown back with
        secrets under the old key is then refused, whatever its values, until O(retry_quarantined=true).
      - A mapping with a key at any depth that begins with C(sec) is taken for a misspelt C(secret) and hidden likewise.
        For a struct with such a field give C(value) and C(secret=false).
      - Other values make another release, so a roll-back brings the old ones back, and a boot the same ones.
    type: dict
    default: {}
  maps:
    description:
      - How maps of the object are to be made, by the map's name.
      - C(max_entries) is the number of entries, for a ring buffer the number of bytes. A map to which the source gives
        no size needs it.
      - C(on_change) says what becomes of the entries where the map differs from the one that is in use, by type, sizes,
        flags or the fields of its keys and values. An equal map goes on with its entries in any case, except with
        V(fresh).
      - A C(prog_array), and a map of maps that the source fills (C(.values = {…})), is each release's own, and nothing
        is carried into it. A C(prog_array) that somebody filled by hand is refused without V(fresh), since tail calls
        would go nowhere. Fill the new one before M(ebpf.deploy.bpf_attach).
      - With V(refuse), the default, the release is refused, and the difference is named.
      - With V(copy) the entries are copied before the first hook runs the release. It is for configuration. What is
        written to the old map meanwhile is not there.
      - With V(merge) the counts are moved once all hooks run the release, inside the kernel, so that none is lost or
        counted twice. A roll-back takes them along. It is for counters that are added to atomically or per CPU, and
        needs libbpf 0.7.
      - With V(fresh) the map begins empty.
      - C(fields) gives fields of the values a word, nested ones as C(outer.inner), the value itself as C(value) where
        it has no fields. V(sum) adds, which unsigned integers of 4 and 8 bytes do without a word. V(max) takes the
        larger (Linux 5.12). V(keep) copies the field with entries that the new map does not have yet. V(drop) gives it
        up. What has no place in the new values and no word is refused.
    type: dict
    default: {}
  btf:
    description:
      - A file on the host with the types of its kernel, raw BTF or a vmlinux. The object is relocated against it
        (CO-RE), for kernels that do not show their own in C(/sys/kernel/btf/vmlinux). It is kept with the release.
    type: path
  signature:
    description:
      - The signature of the source or object, a file on the controller that C(ssh-keygen -Y sign -n ebpf.deploy) made.
        With O(remote_src=true) a path on the host. By default the one that lies beside O(src), if there is one.
      - C(NAME.sig) signs the file C(NAME) alone. Headers that travel with the source, and O(cflags), must be signed,
        too. Then C(NAME.sha256.sig) signs the list C(NAME.sha256) beside it, which has the lines of C(sha256sum) for
        the source and each of its headers, and a line of C(# cflags:) and the flags. What is not covered is refused,
        with the commands that sign it.
      - Where the host has C(/etc/ebpf_deploy/allowed_signers), a signature by one of these is demanded, before the
        compiler and the kernel see anything. Role P(ebpf.deploy.host#role) puts that file there.
      - M(ebpf.deploy.bpf_attach), rollbacks and boots ask for no signature again. They take what this host accepted
        before, from where root alone can write, and a way back that somebody could refuse would be none.
      - What is signed is the program. O(name), O(programs), O(globals), O(maps) and O(btf), and the places where it is
        attached, are the playbook's.
    type: path
  allowed_signers:
    description:
      - A list of allowed signers on the host, as in ssh-keygen(1), that makes this task demand a signature. Root alone
        may be able to write it. It counts beside C(/etc/ebpf_deploy/allowed_signers), never instead of it.
    type: path
    default: ""
  limits:
    description:
      - What the release may cost. Beyond it the release is refused, and nothing stays loaded. The kernel's own bounds
        hold anyway.
      - The verifier's figures belong to the kernel that judged. Leave some room for other ones.
    type: dict
    suboptions:
      insns:
        description: Instructions that the verifier processed, of one program. The kernel's bound is 1,000,000.
        type: int
      states:
        description: States that the verifier held, of one program.
        type: int
      stack:
        description: Bytes of stack, of one function. The kernel's bound is 512, for all functions that call each other.
        type: int
      map_bytes:
        description: Memory of all maps together, once created. In bytes, or as V(16M). Refused before the first is
          created, by the kinds of map whose memory is told exactly (RV(memory)), else by the kernel's own figure.
        type: bytes
  lint:
    description:
      - What happens where the bytecode loads a value that all CPUs share, changes it and stores it back, without an
        atomic operation, a spin lock or a per-CPU map. On two CPUs at once such a counter loses counts.
      - V(warn) warns with file, line and what to write instead. V(fail) refuses the release before the kernel sees it.
        V(off) does not look.
      - The bytecode does not show that a key is only ever touched by one task; accept such a finding by
        O(lint_accept).
      - Not found are stores that only depend on what was loaded (C(if (x > *max) *max = x)), and two CPUs that both
        create an entry that was missing.
    type: str
    choices: ["off", warn, fail]
    default: warn
  lint_accept:
    description: Findings of O(lint) that are right as they are. They neither warn nor fail, and the deployment's
      journal keeps them.
    type: list
    elements: dict
    default: []
    suboptions:
      map:
        description: The map's name, or the global variable's. Any by default.
        type: str
      program:
        description: The program. Any by default.
        type: str
      reason:
        description: Why no update is lost, or why a lost one does no harm.
        type: str
        required: true
  _shipped:
    description: What the action plugin read on the controller. Not for users.
    type: dict
  _rollout_checks:
    description: The file of checks that role or playbook rollout was given. Not for users.
    type: str
seealso:
  - module: ebpf.deploy.bpf_attach
  - module: ebpf.deploy.bpf_release
author:
  - the ebpf.deploy contributors (@ebpf-deploy)
"""

EXAMPLES = r"""
---
- name: Load the packet counter of this collection and stage it
  ebpf.deploy.bpf_program:
    name: counter
    src: ebpf.deploy.xdp_packet_counter
  become: true

- name: Ask the verifier of every host, change nothing
  ebpf.deploy.bpf_program:
    name: counter
    src: counter.bpf.c
    state: verified
  become: true

- name: Load only what one of our release engineers signed (ssh-keygen -Y sign -n ebpf.deploy -f KEY counter.bpf.c)
  ebpf.deploy.bpf_program:
    name: counter
    src: counter.bpf.c
    signature: counter.bpf.c.sig
    allowed_signers: /etc/ssh/release_engineers
  become: true

- name: Refuse a release that costs more than was agreed
  ebpf.deploy.bpf_program:
    name: counter
    src: counter.bpf.c
    limits:
      insns: 50000
      map_bytes: 16M
  become: true

- name: Refuse counters that lose counts, but for the one that a single task writes
  ebpf.deploy.bpf_program:
    name: latency
    src: latency.bpf.c
    lint: fail
    lint_accept:
      - map: started
        reason: Its key is the thread's id, and only that thread's system calls write it.
  become: true

- name: Compile once, on a build host, since the others have no compiler
  ebpf.deploy.bpf_program:
    name: counter
    src: counter.bpf.c
    state: built
  become: true
  delegate_to: build.example.com
  run_once: true
  register: built

- name: Load that object on every host, so that all share one release
  ebpf.deploy.bpf_program:
    name: counter
    content: "{{ built.object }}"
  become: true

- name: Set globals, one of them a secret, and the size of a map
  ebpf.deploy.bpf_program:
    name: limiter
    src: limiter.bpf.c
    globals:
      packet_limit: 1000
      verdict: XDP_DROP
      uplink: eth0
      limits: {burst: 64}
      cookie_key: {value: "{{ vault_cookie_key }}", secret: true}
    maps:
      flows: {max_entries: 65536}
  become: true

- name: A release whose counters have another field, and whose block list is larger
  ebpf.deploy.bpf_program:
    name: edge
    src: edge.bpf.c
    maps:
      counters: {on_change: merge, fields: {last_seen: max}}
      blocked: {on_change: copy, max_entries: 200000}
  become: true

- name: Load two programs, one of which has a section that libbpf does not know, and leave out what is for debugging
  ebpf.deploy.bpf_program:
    name: edge
    src: edge.bpf.o
    programs:
      - count_*
      - {name: guard, type: cgroup_sock_addr, attach_type: cgroup_inet4_connect}
      - {name: "*_debug", autoload: false}
  become: true

- name: Load a program that was written for BCC
  ebpf.deploy.bpf_program:
    name: flows
    src: flows.c
    compiler: bcc
    cflags: [-DLIMIT=1000]
    programs:
      - {name: count_flows, type: xdp}
    lint_accept:
      - {program: count_flows, reason: Its counters are per CPU.}
  become: true
"""

RETURN = r"""
release:
  description: The release's id. With secrets among O(globals) it has 16 digits more, which each host makes by its own
    key.
  returned: success, except for O(state=absent)
  type: str
  sample: 3f1c0f4f6c9de2ab
load:
  description: The load in the kernel, the release's id and a number.
  returned: for O(state=present)
  type: str
  sample: 3f1c0f4f6c9de2ab-1
source_id:
  description: What reports compare between hosts that compile for themselves. Source, flags and all that is set,
    of secrets the names; compiler and kernel left out.
  returned: success, except for O(state=absent)
  type: str
  sample: 0a4d55a8d778e5022fab701977c5d840bbc486d0d40a7e8a1f0e8e5a7b0f2b1c
state:
  description: V(staged), or V(confirmed) where this very load runs at the hooks.
  returned: for O(state=present)
  type: str
  sample: staged
compiled:
  description: Whether the compiler ran. False where the object came from the cache or from you. With O(compiler=bcc)
    whether it ran to see what the source holds. Each load compiles in any case.
  returned: success, except for O(state=absent)
  type: bool
  sample: false
programs:
  description: The programs, fields named as bpftool names them, with the verifier's figures. C(insns_share) and
    C(stack_share) are shares of the kernel's bounds.
  returned: success, except for O(state=absent)
  type: list
  elements: dict
  sample: [{name: xdp_packet_counter, section: xdp, type: xdp, tag: b63b4fc4f3b5d0f8, processed_insns: 19,
    insns_share: 0.000019, stack_depth: 8, stack_share: 0.015625}]
globals:
  description: The globals that were set, as the program sees them. A secret one is only named.
  returned: when O(globals) sets some
  type: dict
  sample: {packet_limit: 1000, verdict: XDP_DROP, cookie_key: (secret)}
maps:
  description: The maps that the object defines, in the size that they are made.
  returned: success, except for O(state=absent)
  type: list
  elements: dict
  sample: [{name: packet_count_map, type: percpu_array, bytes_key: 4, bytes_value: 8, max_entries: 1, flags: 0}]
memory:
  description:
    - What each map takes of the kernel's memory. C(bytes) is the kernel's own figure, an estimate before Linux 6.4.
    - C(predicted) was told before the map was created, and C(bytes_full) is what it will take when all its entries are
      there. Both are null for the kinds of map, and on kernels before 6.4, where it cannot be told exactly.
    - C(shared) says that the map is the one that is attached, with its entries, and takes no further memory.
    - The maps are refused before the first is created where the host's available memory, or what the cgroups around
      the connection leave, is less. No cgroup is charged for the values of per-CPU maps. Where maps that grow with
      their entries would not fit once they are full, a warning names both figures.
  returned: for O(state=present) and O(state=verified)
  type: dict
  sample: {packet_count_map: {bytes: 336, predicted: 336, bytes_full: 336, shared: false}}
cost:
  description: The verifier's figures beside those of the release that runs, for programs of the same name. Empty where
    nothing else runs, or where it was judged by another kernel.
  returned: for O(state=present)
  type: dict
  sample: {xdp_packet_counter: {insns: {before: 19, after: 214}, states: {before: 1, after: 12},
    stack: {before: 8, after: 24}}}
requires:
  description:
    - What the object needs of a kernel and of the process that loads it, each a kind and a name. The kinds are
      C(program_type), C(map_type), C(helper), C(kfunc), C(function) (what fentry and its like attach to), C(lsm_hook),
      C(tracepoint) (of C(tp_btf)), C(iterator), C(struct_ops) and C(capability). It is read from the object, so that it
      is the same on every host.
    - What this host was found not to have is refused before anything is loaded, all in one error. Where it cannot be
      told, as with a helper that is only called under a condition, the kernel itself decides. Kfuncs that the source
      declares weak are not needed.
    - With O(compiler=bcc) there is no object, and the types and capabilities alone are told.
  returned: success, except for O(state=absent)
  type: list
  elements: str
  sample: [capability CAP_BPF, capability CAP_NET_ADMIN, helper bpf_map_lookup_elem, map_type percpu_array,
    program_type xdp]
lint:
  description:
    - Where updates can be lost. C(code) is V(lost_update), V(lost_update_by_helper) where a copy is written back by
      bpf_map_update_elem, or V(not_judged). C(source) is null where the object has no line information (C(-g)).
    - C(map) is V(data) or V(bss) for a global variable, which C(variable) names. C(accepted) is the reason from
      O(lint_accept), or null.
  returned: success, except for O(state=absent)
  type: list
  elements: dict
  sample: [{program: xdp_packet_counter, map: packet_count_map, variable: "", code: lost_update, accepted: null,
    what: "A value of map packet_count_map is read, changed and stored back, so that one of two CPUs' updates is lost",
    do: "Write __sync_fetch_and_add(pointer, n), or make the map a BPF_MAP_TYPE_PERCPU_ARRAY", instruction: 8,
    source: {file: counter.bpf.c, line: 14, text: (*value)++;}}]
object:
  description: The object's bytes in base64.
  returned: for O(state=built)
  type: str
steps:
  description: What was done, or would be in check mode.
  returned: for O(state=present) and O(state=absent)
  type: list
  elements: str
  sample: [keep release 3f1c0f4f6c9de2ab, pin load 3f1c0f4f6c9de2ab-1, stage load 3f1c0f4f6c9de2ab-1]
signed_by:
  description: Who signed what was given, as the host's list of allowed signers names them. Empty where nobody demands
    a signature.
  returned: success, except for O(state=absent)
  type: str
  sample: alice@example.com
compiler_output:
  description: What the compiler printed, its warnings.
  returned: when it printed something
  type: list
  elements: str
failure:
  description:
    - What is wrong, as data. C(code) names the kind, C(what) says it in a sentence, C(do) says what helps.
    - A refusal by the verifier or libbpf (C(code=verifier_refused)) has a stable C(diagnosis), such as
      V(null_not_checked); C(what) is its summary and C(do) its fix. Beside them are C(cause), C(program), C(source)
      (C(file), C(line) and the line's C(text)), C(instruction) (its number), C(registers) (what each last held),
      C(log) (the deciding lines), C(log_file) (the whole log on the host, not in check mode), C(stats), C(errno) and
      C(kernel).
    - What this host lacks (C(code=unsupported), or V(unprivileged) where it is capabilities) is told in C(missing).
      C(diagnosis) is the one that the kernel's own refusal of it has, or V(features_missing) where there are several.
  returned: on failure
  type: dict
  contains:
    code:
      description: The kind of failure.
      type: str
      returned: always
    what:
      description: What is wrong, in a sentence.
      type: str
      returned: always
    do:
      description: What helps, in a sentence. May be empty.
      type: str
      returned: always
    diagnosis:
      description: Which refusal it is.
      type: str
      returned: for a refusal by the verifier or libbpf
    cause:
      description: Why the kernel refuses that.
      type: str
      returned: for a refusal by the verifier or libbpf
    program:
      description: The program that was refused. Empty where it is a map.
      type: str
      returned: for a refusal by the verifier or libbpf
    source:
      description: The C(file), C(line) and C(text) to blame, or none.
      type: dict
      returned: for a refusal by the verifier
    instruction:
      description: The number of the instruction to blame, or none.
      type: int
      returned: for a refusal by the verifier
    registers:
      description: What each register last held, in the verifier's words.
      type: dict
      returned: for a refusal by the verifier
    log:
      description: The last lines of the log, or what libbpf said.
      type: list
      elements: str
      returned: for a refusal by the verifier or libbpf
    log_file:
      description: Where the whole log lies on the host. The last eight are kept. Empty in check mode.
      type: str
      returned: for a refusal by the verifier or libbpf
    stats:
      description: How far the verifier came.
      type: dict
      returned: for a refusal by the verifier
    missing:
      description: All that this host lacks of what the object requires. C(kind) and C(name) are those of RV(requires),
        C(since) the release of Linux that brought it where that is known, C(needed_by) the programs or maps, C(near)
        names that this kernel has, C(source) the call, C(diagnosis) as above.
      type: list
      elements: dict
      returned: where this host lacks something
  sample: {code: verifier_refused, diagnosis: packet_out_of_bounds, program: xdp_drop, source: {file: drop.bpf.c,
    line: 12}}
checks:
  description: The file of checks on the controller, where role or playbook rollout asks.
  returned: for role and playbook rollout
  type: str
  sample: /srv/site/checks.yml
"""

import base64
import binascii
import os

from ..module_utils import _module
from ..module_utils._core.deployment import stage, transitions
from ..module_utils._core.errors import BadRequest, NotRootsAlone
from ..module_utils._core.kernel import bpf, owned
from ..module_utils._core.kernel.values import SECRET
from ..module_utils._core.objects import cost, lint, signature
from ..module_utils._core.objects.source import Source, headers_beside

ELF_MAGIC = b"\x7fELF"


BASE64_MAGIC = base64.b64encode(ELF_MAGIC)[:5].decode()  # no C source begins so


def main():
    wishes = _module.MaybeSecret()
    _module.run(
        lambda module: work(module, wishes),
        guarded={"globals": wishes},
        argument_spec={
            "name": {"type": "str", "required": True},
            "src": {"type": "path"},
            "content": {"type": "str"},
            "remote_src": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["present", "verified", "built", "absent"], "default": "present"},
            "compiler": {"type": "str", "choices": ["auto", "clang", "bcc"], "default": "auto"},
            "cflags": {"type": "list", "elements": "str", "default": []},
            "programs": {"type": "list", "elements": "raw", "default": []},
            "globals": {"type": "dict", "default": {}},
            "maps": {"type": "dict", "default": {}},
            "btf": {"type": "path"},
            "signature": {"type": "path"},
            "allowed_signers": {"type": "path", "default": ""},
            "limits": {
                "type": "dict",
                "options": {
                    "insns": {"type": "int"},
                    "states": {"type": "int"},
                    "stack": {"type": "int"},
                    "map_bytes": {"type": "bytes"},
                },
            },
            "lint": {"type": "str", "choices": ["off", "warn", "fail"], "default": "warn"},
            "lint_accept": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "map": {"type": "str"},
                    "program": {"type": "str"},
                    "reason": {"type": "str", "required": True},
                },
                "required_one_of": [("map", "program")],
            },
            "rollout_id": {"type": "str", "default": ""},
            "retry_quarantined": {"type": "bool", "default": False},
            # what the action plugin read: {file, data, headers: {name: data}} in base64, or {file, path} on the host;
            # and {signature, listed} in base64, where there is a signature
            "_shipped": {"type": "dict"},
            "_rollout_checks": {"type": "str"},  # the action plugin's alone
        },
        mutually_exclusive=[("src", "content")],
        required_if=[("state", each, ("src", "content"), True) for each in ("present", "verified", "built")],
    )


def work(module, wishes):
    name, state = module.params["name"], module.params["state"]
    if state == "absent":
        outcome = transitions.remove(name, module.check_mode, only_unattached=True)
        return _module.outcome_fields(module, outcome)
    given = given_by(module.params, wishes)
    if state == "present":
        before = before_staging(name) if module._diff else None
        result = stage.stage(name, given, **how(module))
        warn_of_lost_updates(module, result.built.lint)
        return {**staged(module, result, before), "signed_by": given.signed_by}
    built = stage.build(name, given, keep=not module.check_mode)
    warn_of_lost_updates(module, built.lint)
    fields = {"changed": False, "signed_by": given.signed_by}
    if state == "built" and not built.object:
        raise BadRequest("compiler: bcc gives no object for other hosts", "Have each host compile: leave state out")
    if state == "built":
        return {**fields, **described(built, {}), "object": base64.b64encode(built.object).decode()}
    figures, warnings = stage.verify(name, built, given, module.check_mode)
    warn(module, warnings)
    return {**fields, **described(built, figures.programs), "memory": figures.maps}


def warn(module, warnings):
    for sentence in warnings:
        module.warn(sentence)


def how(module):
    """The rest of stage.stage's arguments."""
    return {
        "rollout_id": module.params["rollout_id"],
        "retry_quarantined": module.params["retry_quarantined"],
        "check_mode": module.check_mode,
    }


# ---- what was given ------------------------------------------------------------------------------


def given_by(params, wishes):
    """The stage.Given of the module's arguments, its signature judged where this host or the user demands one."""
    file, data, headers = _text(params)
    is_object = data.startswith(ELF_MAGIC) or not file.endswith(".c")
    source = Source(file, data) if is_object else Source(file, data, headers, tuple(params["cflags"]))
    given = stage.Given(
        file=file,
        programs=tuple(params["programs"]),
        globals=wishes.values,
        secrets=frozenset(wishes.secrets),
        maps={str(name): wish for name, wish in params["maps"].items()},
        btf=_read(params["btf"]) if params["btf"] else None,
        signed_by=signed_by(params, source),
        limits=params["limits"],
        lint=params["lint"],
        lint_accept=tuple(params["lint_accept"]),
        compiler="bcc" if params["compiler"] == "bcc" else "clang",
    )
    return given._replace(object=data) if is_object else given._replace(source=source)


def signed_by(params, source):
    """The principal who signed the source, empty where nobody demands that."""
    shipped = params["_shipped"] or {}
    seal = signature.Seal(_decoded(shipped.get("signature", "")), _decoded(shipped.get("listed", "")))
    if params["remote_src"]:
        seal = _seal_on_host(params)
    name = signature.signer(source, seal, params["allowed_signers"])
    if params["signature"] and not name:
        raise BadRequest(
            "signature is given, and this host has no list of signers to judge it by",
            f"Put {signature.SIGNERS} there (role ebpf.deploy.host, host_allowed_signers), or name allowed_signers",
        )
    return name


def _seal_on_host(params):
    path = params["signature"] or (signature.beside(params["src"]) if params["src"] else None)
    if not path:
        return signature.Seal()
    listed = signature.signed_path(path)
    return signature.Seal(_read(path), _read(listed) if listed else b"")


def _text(params):
    """(file name, bytes, headers) of what is to be compiled or loaded."""
    if params["content"] is not None and params["content"].startswith(BASE64_MAGIC):
        text = "".join(params["content"].split())  # base64 writes it in lines
        return f"{params['name']}.bpf.o", _decoded(text), ()
    if params["content"] is not None:
        return f"{params['name']}.bpf.c", params["content"].encode(), ()
    if not params["src"]:
        raise BadRequest("src is empty", "Give the path of a source or an object")
    shipped = params["_shipped"]
    if params["remote_src"]:
        data = _read(params["src"])
        headers = headers_beside(params["src"], data, _read) if params["src"].endswith(".c") else ()
        return os.path.basename(params["src"]), data, headers
    if shipped is None:
        raise BadRequest(
            f"{params['src']} was not shipped to the host: the module ran without its action plugin",
            "Call it by its full name, ebpf.deploy.bpf_program, or use remote_src: true for a file on the host",
        )
    data = _transferred(shipped["path"]) if shipped.get("path") else _decoded(shipped["data"])
    headers = tuple(sorted((name, _decoded(text)) for name, text in shipped.get("headers", {}).items()))
    return shipped["file"], data, headers


def _transferred(path):
    """Beside the module itself, and so as trustworthy as this very code."""
    with open(path, "rb") as stream:
        return stream.read()


def _read(path):
    """A file of this host's. What somebody else than root can write is his to choose, and no program of root's."""
    try:
        return owned.read(path)
    except NotRootsAlone as failure:
        failure.do += ". Or have the file on the controller, and leave out remote_src"
        raise
    except OSError as error:
        raise BadRequest(
            f"{path} cannot be read on the host: {error.strerror}",
            "With remote_src: true, src is a path on the host, as btf always is",
            path=path,
        ) from error


def _decoded(text):
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise BadRequest("What was given as base64 is none", "Give the object as state: built returned it") from error


def warn_of_lost_updates(module, found):
    """A warning for each finding that is not accepted, and for each acceptance that accepts nothing."""
    for finding in found:
        if finding["accepted"] is None:
            module.warn(f"{lint.sentence(finding)}. {finding['do']}")
    for entry in lint.unused(found, module.params["lint_accept"]) if module.params["lint"] != "off" else ():
        what = " and ".join(f"{key} {entry[key]}" for key in ("map", "program") if entry[key])
        module.warn(f"lint_accept names {what}, where nothing was found: take the entry out")


# ---- what is returned ----------------------------------------------------------------------------


def staged(module, result, before):
    """The module's answer for O(state=present). `before` is what the diff shows of what was there."""
    if result.steps and not module.check_mode:
        from ..module_utils._core import command  # everything a boot unit needs: only a run that staged pays for it

        command.install()
    warn(module, result.warnings)
    steps = [step.describe() for step in result.steps]
    figures = {name: dict(row) for name, row in result.figures.programs.items()}
    for name, row in _in_kernel(result.after, result.load):
        figures.setdefault(name, {}).update(row)
    fields = {
        "changed": bool(steps),
        "load": result.load,
        "state": result.state,
        "steps": steps,
        **described(result.built, figures),
        "memory": _memory_now(result),
        "cost": stage.costs(result),
    }
    if module._diff:
        after = _view(result.built.release, _tags(fields["programs"]))
        fields["diff"] = _module.diff(before if steps else after, after)
        _hide(fields["diff"])
    return fields


def before_staging(name):
    """What is staged, or else what runs, as the diff shows it. To be asked first: staging another unloads it."""
    seen = stage.observe.sound_facts(stage.store.home(name))
    current = seen.staged or seen.confirmed
    if current is None:
        return {"release": None, "programs": {}}
    tags = {name: row["tag"] for name, row in _in_kernel(seen, current.load)}
    release = seen.releases.get(current.release)
    return _view(release, tags) if release else {"release": current.release, "programs": tags}


def _hide(diff):
    """What is secret afterwards is not shown of before either."""
    before, after = (diff[side].get("globals", {}) for side in ("before", "after"))
    if before:
        diff["before"] = {
            **diff["before"],
            "globals": {name: SECRET if after.get(name) == SECRET else before[name] for name in before},
        }


def _view(release, tags):
    """What the diff shows of a release. A secret that changed shows in the id alone."""
    return {"release": release.id, "programs": tags, **({"globals": release.globals} if release.globals else {})}


def described(built, figures):
    """Release, programs and maps as data."""
    fields = {
        "release": built.release.id,
        "source_id": built.release.source_id,
        "compiled": bool(built.compiled and not built.compiled.was_cached),
        "programs": [
            {
                "name": program.name,
                "section": program.section,
                "type": bpf.prog_type_name(program.type),
                **figures.get(program.name, {}),
                **cost.shares(figures.get(program.name, {})),
            }
            for program in built.spec.programs
            if built.chosen is None or program.name in built.chosen
        ],
        "maps": [
            {
                "name": shape.name,
                "type": shape.type_name,
                "bytes_key": shape.key_size,
                "bytes_value": shape.value_size,
                "max_entries": shape.max_entries,
                "flags": shape.flags,
            }
            for shape in built.spec.maps
        ],
    }
    fields["requires"] = list(built.release.requires)
    fields["lint"] = list(built.lint)
    if built.release.globals:
        fields["globals"] = built.release.globals
    if built.compiled and built.compiled.messages:
        fields["compiler_output"] = list(built.compiled.messages)
    return fields


def _in_kernel(seen, load):
    """(program, its id, tag, verified_insns) of a load that is in the kernel."""
    for name, number in seen.loads[load].programs.items() if load in seen.loads else ():
        info = bpf.program(number)
        yield name, {"id": info.id, "tag": info.tag, "verified_insns": info.verified_insns}


def _memory_now(result):
    """{map: what it takes}: as it was told and, where the load is in the kernel, as the kernel has it now."""
    rows, load = dict(result.figures.maps), result.after.loads.get(result.load)
    for name, number in load.maps.items() if load else ():
        with bpf.map_by_id(number) as fd:
            rows[name] = {**rows.get(name, {}), "bytes": bpf.memlock(fd)}
    return rows


def _tags(programs):
    return {program["name"]: program.get("tag") for program in programs}


if __name__ == "__main__":
    main()
