# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs to diagnoses, on recorded texts: what this machine's kernel cannot be made to say, or says otherwise.

Refusals that any kernel gives are compiled and loaded in tests/kernel/test_refusals.py. Of the texts below "6.18" was
recorded here, of longer ones without the steps between; "5.x", "6.x" and "libbpf" are the formats of that kernel's
verifier.c and of the library as they are known, not recorded; "7.3" follows its diagnostics.c, and one log is as
cilium/ebpf recorded it.
"""

from __future__ import annotations

import errno
import time

import pytest

from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import diagnosis, verifier
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects.rules import facts, form, order

COUNT = "processed 9 insns (limit 1000000) max_states_per_insn 0 total_states 2 peak_states 1 mark_read 1\n"
ROOT_EPERM = (
    "libbpf: prog 'p': BPF program load failed: Operation not permitted",
    "libbpf: permission error while running as root; try raising 'ulimit -l'? current value: 8.0 MiB",
    "libbpf: prog 'p': failed to load: -1",
)
ALL_CAPABILITIES = (1 << 41) - 1
HEADED = """\
; return *value; @ count.bpf.c:19
4: (85) call bpf_map_lookup_elem#1    ; R0=map_value_or_null(id=1,map=hits,ks=4,vs=8)
5: (79) r0 = *(u64 *)(r0 +0)
{old_line}
Verification failed: Register Type Safety: Invalid dereference

Reason:
  R0 may be NULL here (a nullable map value pointer). The program could dereference NULL on this
  path, so the verifier cannot prove this access is safe.

At:
  count @ count.bpf.c:19:9
  Source context:
      18 |
  >>> 19 | 	return *value;
         |         ^-- error: invalid dereference of R0 (a nullable map value pointer)
  Instruction context:
      4 | (85) call bpf_map_lookup_elem#1
  >>> 5 | (79) r0 = *(u64 *)(r0 +0)

Causal path:
  count @ count.bpf.c:14:17
  Source context:
  >>> 14 | 	__u64 *value = bpf_map_lookup_elem(&hits, &zero);
         |                 ^-- update: R0 changed

Suggestion:
  Add a NULL check before the access and dereference the pointer only on the non-NULL path.

"""

LOGS = [  # (code, origin, the verifier's last words, further arguments)
    ("unbounded_loop", "5.x without CAP_BPF", "back-edge from insn 7 to 2", {}),
    (
        "unbounded_loop",
        "6.18",
        "infinite loop detected at insn 1\ncur state: R0=scalar() R10=fp0\nold state: R0=scalar()",
        {},
    ),
    ("too_complex", "6.18", "The sequence of 8193 jumps is too complex.", {"errno": errno.EFAULT}),
    ("too_complex", "6.12", "The sequence of 8193 jumps is too complex.", {"errno": errno.E2BIG}),
    ("too_many_instructions", "5.8", "BPF program is too large. Processed 1000001 insn", {"errno": errno.E2BIG}),
    ("recursion", "6.x", "the call stack of 9 frames is too deep !", {}),
    ("stack_too_large", "5.x", "combined stack size of 3 calls is 608. Too large", {}),
    (
        "stack_too_large",
        "5.x",
        "tail_calls are not allowed when call stack of previous frames is 288 bytes. Too large",
        {},
    ),
    ("stack_too_large", "6.x", "invalid write to stack R10 off=-520 size=8", {}),
    ("stack_out_of_bounds", "5.8", "invalid stack type R2 off=-8 access_size=16", {}),
    ("stack_out_of_bounds", "5.8", "variable stack access var_off=(0xffffffffffffffe0; 0x1f) off=0 size=1", {}),
    ("stack_out_of_bounds", "6.x", "invalid indirect access to stack R2 off=-8 size=16", {}),
    ("uninitialised_stack", "5.8", "invalid indirect read from stack off -408+308 size 312", {}),
    ("uninitialised_stack", "6.1", "invalid indirect read from stack R2 off -408+308 size 312", {}),
    ("uninitialised_stack", "6.1", "invalid read from stack R2 off -8+1 size 8", {}),
    ("null_not_checked", "5.8", "R0 invalid mem access 'map_value_or_null'", {}),
    ("null_not_checked", "6.x", "R1 pointer arithmetic on map_value_or_null prohibited, null-check it first", {}),
    ("null_not_checked", "6.x", "Possibly NULL pointer passed to trusted arg0", {}),
    (
        "packet_out_of_bounds",
        "5.8",
        "invalid access to packet, off=13 size=1, R1(id=0,off=13,r=0)\nR1 offset is outside of the packet",
        {},
    ),
    ("packet_out_of_bounds", "6.x", "value -2147483648 makes pkt pointer be out of bounds", {}),
    (
        "map_value_out_of_bounds",
        "5.8",
        "R0 unbounded memory access, make sure to bounds check any array access into a map",
        {},
    ),
    (
        "map_value_out_of_bounds",
        "6.x",
        "math between map_value pointer and register with unbounded min value is not allowed",
        {},
    ),
    ("unbounded_size", "5.8", "R2 unbounded memory access, use 'var &= const' or 'if (var < const)'", {}),
    ("zero_size", "6.x", "R2 invalid zero-sized read: u64=[0,64]", {}),
    ("memory_out_of_bounds", "6.x", "R6 unbounded memory access, make sure to bounds check any such access", {}),
    ("kernel_struct_out_of_bounds", "6.x", "access beyond struct task_struct at off 9000 size 8", {}),
    ("argument_mismatch", "6.x", "func 'bpf_lsm_file_open' doesn't have 3-th argument", {}),
    ("context_access", "5.8", "dereference of modified ctx ptr R1 off=8 disallowed", {}),
    ("uninitialised_register", "5.8", "R3 !read_ok", {}),
    (
        "missing_capability",
        "5.8",
        "R1 has unknown scalar with mixed signed bounds, pointer arithmetic with it prohibited for !root",
        {},
    ),
    (
        "missing_capability",
        "6.x",
        "function calls to other bpf functions are allowed for CAP_BPF and CAP_SYS_ADMIN",
        {},
    ),
    ("missing_capability", "6.x", "R1 leaks addr into map", {"capabilities": 1 << 39}),
    ("pointer_leak", "6.x", "R1 leaks addr into map", {"capabilities": ALL_CAPABILITIES}),
    ("pointer_arithmetic", "6.x", "R2 pointer arithmetic on pkt_end prohibited", {}),
    ("not_a_pointer", "5.8", "R1 invalid mem access 'inv'", {}),
    ("not_a_pointer", "6.x", "R1 invalid mem access 'map_ptr'", {}),
    ("read_only_memory", "6.x", "R1 cannot write into rdonly_mem", {}),
    ("misaligned_access", "6.x", "misaligned packet access off 0+14+1 size 4", {}),
    ("core_relocation_failed", "6.x with libbpf 0.x", "invalid func unknown#195896080", {}),
    ("helper_not_allowed", "5.8", "unknown func bpf_probe_read#4", {}),
    ("helper_not_allowed", "6.18", "program of this type cannot use helper bpf_probe_read#4", {}),
    (
        "lockdown",
        "failure-modes.md, tetragon#5507",
        "program of this type cannot use helper bpf_probe_read#4",
        {"lockdown": "none integrity [confidentiality]\n"},
    ),
    (
        "lockdown",
        "dmesg among libbpf's lines",
        "program of this type cannot use helper bpf_probe_read#4",
        {"libbpf_log": ["Lockdown: agent: use of bpf to read kernel RAM is restricted; see man kernel_lockdown.7"]},
    ),
    ("unknown_helper", "5.8", "invalid func unknown#9999", {}),
    ("gpl_only", "5.8", "cannot call GPL-restricted function from non-GPL compatible program", {}),
    ("sleep_not_allowed", "6.x", "sleepable helper bpf_copy_from_user#148 in rcu_read_lock region", {}),
    ("kfunc_not_allowed", "6.x", "calling kernel function bpf_task_acquire is not allowed", {}),
    ("kfunc_missing", "6.x", "kfunc 'bpf_nope' is referenced but wasn't resolved", {}),
    ("map_not_created", "6.x", "BPF map 'hits' is referenced but wasn't created", {}),
    ("lock_held", "5.8", "bpf_spin_unlock is missing", {}),
    ("lock_held", "6.x", "function calls are not allowed while holding a lock", {}),
    ("lock_held", "6.18", "BPF_EXIT instruction in main prog cannot be used inside bpf_rcu_read_lock-ed region", {}),
    ("reference_leak", "5.8", "Unreleased reference id=2 alloc_insn=4", {}),
    ("reference_leak", "6.x", "tail_call would lead to reference leak", {}),
    ("reference_not_held", "5.8", "reference has not been acquired before", {}),
    ("tail_call_incompatible", "5.8", "tail_calls are not allowed in programs with bpf-to-bpf calls", {}),
    ("bad_map_for_helper", "5.8", "cannot pass map_type 1 into func bpf_redirect_map#51", {}),
    ("bad_argument_type", "5.8, katran#149", "R1 type=inv expected=map_ptr", {}),
    ("dynptr_state", "6.x", "Expected an initialized dynptr as arg #1", {}),
    ("constant_argument", "6.x", "R2 must be a known constant", {}),
    (
        "return_value_range",
        "6.1",
        "At program exit the register R0 has value (0x5; 0x0) should have been in (0x0; 0x1)",
        {},
    ),
    (
        "return_value_range",
        "6.1",
        "At program exit the register R0 has unknown scalar value should have been in (0x0; 0x1)",
        {},
    ),
    ("unreachable_code", "5.8", "unreachable insn 3", {}),
    ("no_exit", "5.8", "last insn is not an exit or jmp", {}),
    ("atomic_not_allowed", "5.8", "BPF_ATOMIC stores into R1 ctx is not allowed", {}),
    ("unknown_instruction", "5.8", "unknown opcode 06", {}),
    ("mixed_pointers", "5.8", "same insn cannot be used with different pointers", {}),
    ("bad_global_function", "5.8", "Global function foo() doesn't return scalar. Only those are supported.", {}),
    ("bad_attach_target", "6.x", "vfs_read() is not modifiable", {}),
    ("bad_attach_target", "6.x", "The address of function foo cannot be found", {}),
    (
        "verifier_bug",
        "6.18",
        "verifier bug: REG INVARIANTS VIOLATION (false_reg1): range bounds violation",
        {"errno": errno.EFAULT},
    ),
    ("uninitialised_register", "7.2", "unexpected __bpf_trap() due to uninitialized variable?", {}),
    ("uninitialised_stack", "7.2", "reading from stack off -8+0 size 8, slot poisoned by dead code elimination", {}),
    ("stack_too_large", "6.12", "stack size of subprog 1 is 520. Too large", {}),
    (
        "stack_out_of_bounds",
        "6.1",
        "variable offset stack pointer cannot be passed into helper function; var_off=(0x0; 0xf) off=-16 size=8",
        {},
    ),
    ("too_complex", "7.2", "liveness analysis exceeded complexity limit (131072 calls)", {}),
    ("verifier_bug", "6.1", "BUG backtracking idx 7", {}),
    ("map_value_out_of_bounds", "6.x", "invalid access to map value pointer, value_size=4 off=8", {}),
    ("memory_out_of_bounds", "6.x", "R2 invalid variable buffer offset: off=0, var_off=(0x0; 0xff)", {}),
    ("kernel_field_read_only", "6.12", "no write support to nf_conn at off 176", {}),
    ("kernel_field_read_only", "6.x", "only read is supported", {}),
    ("kernel_field_read_only", "7.2", "R1 cannot write into ptr_task_struct at off=4 size=4", {}),
    (
        "kernel_struct_variable_index",
        "6.12",
        "R1 is ptr_task_struct invalid variable offset: off=0, var_off=(0x0; 0x38)",
        {},
    ),
    ("kernel_struct_out_of_bounds", "6.x", "struct task_struct doesn't have field at offset 99999", {}),
    ("user_memory", "6.12", "R1 is ptr_iovec access user memory: off=0", {}),
    ("percpu_memory", "6.12", "R1 is ptr_rq access percpu memory: off=0", {}),
    ("context_access", "6.x", "R1 invalid sock access off=44 size=4", {}),
    ("context_access", "6.x", "invalid access to flow keys off=96 size=4", {}),
    ("modified_pointer", "6.x", "dereference of modified ptr_ ptr R1 off=8 disallowed", {}),
    ("modified_pointer", "6.12", "R1 must have zero offset when passed to release func or trusted arg to kfunc", {}),
    ("packet_read_only", "6.x", "cannot write into packet", {}),
    ("packet_read_only", "6.12", "the prog does not allow writes to packet data", {}),
    ("packet_not_for_helper", "6.x", "helper access to the packet is not allowed", {}),
    ("missing_capability", "6.12", "'struct bpf_map' access is allowed only to CAP_PERFMON and CAP_SYS_ADMIN", {}),
    ("missing_capability", "6.12", "R1 tried to add beyond pointer bounds, <masked> prohibited", {}),
    ("gpl_only", "6.12", "Cannot access kernel 'struct task_struct' from non-GPL compatible program", {}),
    ("helper_not_allowed", "6.x", "func bpf_get_func_ip#173 not supported for program type 6", {}),
    ("sockmap_update", "6.x", "cannot update sockmap in this context", {}),
    ("map_field_not_for_program", "6.x", "tracing progs cannot use bpf_spin_lock yet", {}),
    ("map_of_another_field", "6.1", "timer pointer in R1 map_uid=0 doesn't match map pointer in R2 map_uid=0", {}),
    ("map_of_another_field", "7.3", "bpf_wq pointer in R1 map_uid=0 doesn't match map pointer in R2 map_uid=0", {}),
    ("field_of_map_missed", "6.12", "off 4 doesn't point to 'struct bpf_spin_lock' that is at 0", {}),
    ("field_of_map_missed", "6.12", "R1 doesn't have constant offset. bpf_timer has to be at the constant offset", {}),
    ("kptr_access", "6.x", "store to referenced kptr disallowed", {}),
    ("kptr_access", "6.x", "off=8 kptr isn't referenced kptr", {}),
    ("special_field_access", "6.x", "kptr cannot be accessed directly by load/store", {}),
    (
        "sleep_not_allowed",
        "6.12",
        "Only fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops programs can be sleepable",
        {},
    ),
    ("sleep_not_allowed", "7.2", "Program of this type cannot be sleepable", {}),
    ("device_bound", "6.12", "metadata kfuncs require device-bound program", {}),
    ("untrusted_pointer", "6.12", "R1 must be referenced or trusted", {}),
    ("untrusted_pointer", "6.12", "R1 must be a rcu pointer", {}),
    ("untrusted_pointer", "6.x", "R1 type=untrusted_ptr_ expected=ptr_, trusted_ptr_, rcu_ptr_", {}),
    ("lock_missing", "6.12", "bpf_spin_lock at off=16 must be held for bpf_rb_root", {}),
    ("lock_missing", "6.12", "expected an RCU CS when using bpf_iter_task_new", {}),
    (
        "lock_held",
        "6.12",
        "global function calls are not allowed while holding a lock,\nuse static function instead",
        {},
    ),
    ("lock_held", "6.12", "1 bpf_preempt_enable is missing", {}),
    ("lock_held", "6.12", "unmatched rcu read unlock (kernel function bpf_rcu_read_unlock)", {}),
    ("lock_held", "7.2", "bpf_spin_unlock cannot be out of order", {}),
    ("irq_flag", "6.18", "cannot restore irq state out of order, expected id=2 acquired at insn_idx=4", {}),
    ("reference_not_held", "6.x", "arg 1 is an unacquired reference", {}),
    ("jit_needed", "6.x", "JIT does not support calling kernel function", {}),
    ("jit_needed", "6.x", "callbacks are not allowed in non-JITed programs", {}),
    ("tail_call_incompatible", "6.18", "cannot tail call within callback", {}),
    ("bad_global_function", "6.12", "arg#0 reference type('UNKNOWN ') size cannot be determined: -22", {}),
    ("bad_global_function", "6.x", "Function f has 6 > 5 args", {}),
    ("return_value_range", "6.1", "At program exit the register R0 is not a known value (ctx)", {}),
    ("return_value_range", "7.2", "At subprogram exit the register R0 is not a scalar value (map_value)", {}),
    ("constant_string", "6.1", "R3 does not point to a readonly map'", {}),
    ("constant_string", "6.x", "Invalid format string", {}),
    ("constant_argument", "6.1", "R2 is not a known constant'", {}),
    ("dynptr_state", "6.12", "Dynptr has to be an uninitialized dynptr", {}),
    ("dynptr_state", "6.12", "cannot overwrite referenced dynptr", {}),
    ("dynptr_state", "6.x", "Unsupported reg type fp for bpf_dynptr_from_mem data", {}),
    ("iterator_state", "6.12", "expected an initialized iter_num as arg #0", {}),
    ("iterator_state", "6.12", "css_task_iter is only allowed in bpf_lsm, bpf_iter and sleepable progs", {}),
    ("graph_node", "6.12", "rbtree_remove node input must be non-owning ref", {}),
    ("graph_node", "6.12", "held lock and object are not in the same allocation", {}),
    ("arena_misused", "6.12", "addr_space_cast insn can only be used in a program that has an associated arena", {}),
    (
        "bad_argument_type",
        "6.12",
        "kernel function bpf_put_file args#0 expected pointer to STRUCT file but R1 has a pointer to UNKNOWN ",
        {},
    ),
    ("bad_argument_type", "7.2", "R2 expected pointer to ctx, but got fp", {}),
    ("bad_argument_type", "6.x", "R1 is of type task_struct but cgroup is expected", {}),
    ("division_by_zero", "6.x", "div by zero", {}),
    ("division_by_zero", "6.x", "invalid shift 64", {}),
    ("packet_load", "6.12", "BPF_LD_[ABS|IND] instructions not allowed for this program type", {}),
    ("callback_misused", "6.x", "callback function not static", {}),
    ("callback_misused", "6.12", "bpf_throw kfunc (insn 7) cannot be called from callback subprog 1", {}),
    ("debug_info_broken", "6.x", "number of funcs in func_info doesn't match number of subprogs", {}),
    ("too_many_parts", "6.12", "The total number of maps per program has reached the limit of 64", {}),
    ("loader_fault", "6.x", "fd 7 is not pointing to valid bpf_map", {}),
    ("loader_fault", "7.3", "signed program cannot reference a map by fd, only via fd_array index", {}),
    ("bad_replacement", "6.x", "handle() is not a global function", {}),
    ("bad_replacement", "6.12", "Extension program changes packet data, while original does not", {}),
    ("struct_ops_mismatch", "6.x", "attach to unsupported member release of struct tcp_congestion_ops", {}),
    ("bad_attach_target", "6.12", "Attaching fexit/fmod_ret to __noreturn functions is rejected.", {}),
    ("bad_attach_target", "6.x", "attach_btf_id 77 points to disabled hook bpf_lsm_getprocattr", {}),
    ("no_kernel_btf", "6.x", "kernel is missing BTF, make sure CONFIG_DEBUG_INFO_BTF=y is specified in Kconfig.", {}),
    ("symbol_missing", "6.x", "ldimm64 failed to find the address for kernel symbol 'runqueues'.", {}),
    (
        "packet_pointer_stale",
        "6.18",
        "R6 invalid mem access 'scalar'",
        {"told": (facts.packet_moved_by("bpf_xdp_adjust_head"),)},
    ),
    ("function_pointer", "6.18", "unknown opcode 8d", {}),
    ("map_not_declared", "6.18", "R1 type=map_value expected=map_ptr", {}),
    ("reference_not_held", "6.18", "R1 must be referenced when passed to release function", {}),
    ("option_out_of_bounds", "6.18", "R1 offset is outside of the packet", {"section": "cgroup/getsockopt"}),
    ("kptr_access", "6.18", "R1 has no valid kptr", {}),
    (
        "core_relocation_failed",
        "6.18",
        (
            "3: <invalid CO-RE relocation>\n"
            "failed to resolve CO-RE relocation <byte_off> [5] struct task_struct___next.no_such_field (0:0 @ offset 0)"
        ),
        {},
    ),
    ("recursion", "6.x", "back-edge from insn 7 to 2", {"capabilities": ALL_CAPABILITIES}),
    (
        "packet_out_of_bounds",
        "6.18",
        (
            "5: R2=pkt(id=1,r=0,smin=smin32=0,smax=umax=smax32=umax32=0xffff0,var_off=(0x0; 0xfffff))\n"
            "9: (71) r0 = *(u8 *)(r2 +0)\n"
            "invalid access to packet, off=0 size=1, R2(id=1,off=0,r=0)\n"
            "R2 offset is outside of the packet"
        ),
        {},
    ),
    (
        "map_value_out_of_bounds",
        "6.18",
        (
            "10: (85) call bpf_get_current_comm#16\n"
            "invalid access to map value, value_size=8 off=0 size=16\n"
            "R1 min value is outside of the allowed memory range"
        ),
        {},
    ),
    (
        "map_value_out_of_bounds",
        "6.18",
        (
            "16: (63) *(u32 *)(r0 +0) = r1\n"
            "invalid access to map value, value_size=64 off=64 size=4\n"
            "R0 max value is outside of the allowed memory range"
        ),
        {},
    ),
    (
        "memory_out_of_bounds",
        "6.18",
        (
            "8: (63) *(u32 *)(r0 +8) = r1\n"
            "invalid access to memory, mem_size=8 off=8 size=4\n"
            "R0 min value is outside of the allowed memory range"
        ),
        {},
    ),
    (
        "kernel_struct_out_of_bounds",
        "6.18",
        (
            "8: (79) r2 = *(u64 *)(r2 +0)\n"
            "access beyond the end of member __state (mend:28) in struct task_struct with off 24 size 8"
        ),
        {},
    ),
    ("context_access", "6.18", "R1 invalid sock_common access off=16 size=4", {"section": "tc"}),
    (
        "context_access",
        "6.18",
        "8: (61) r1 = *(u32 *)(r1 +24)\ninvalid bpf_context access off=24 size=4",
        {"section": "cgroup/sock_create"},
    ),
    ("context_access", "6.18", ("0: (61) r1 = *(u32 *)(r1 +100)\ninvalid bpf_context access off=100 size=4"), {}),
    (
        "context_access",
        "6.18",
        "5: (71) r1 = *(u8 *)(r6 +0)\nvariable ctx access var_off=(0x0; 0xffff) disallowed",
        {"section": "tracepoint/sched/sched_process_exec"},
    ),
    ("kfunc_missing", "6.18", ("0: (85) call #0                       ;\n1: (57) r0 &= 1\nR0 !read_ok"), {}),
    ("uninitialised_register", "6.18", ("0: (95) exit\nR0 !read_ok"), {}),
    (
        "use_after_release",
        "6.18",
        (
            "42: (bf) r7 = r0                      ; R0=tcp_sock_or_null(id=5,ref_obj_id=4) "
            "R7=tcp_sock_or_null(id=5,ref_obj_id=4)\n"
            "44: (85) call bpf_sk_release#86       ; R0=scalar()\n"
            "45: (15) if r7 == 0x0 goto pc+20      ; R7=scalar(umin=1)\n"
            "46: (61) r6 = *(u32 *)(r7 +0)\n"
            "R7 invalid mem access 'scalar'"
        ),
        {},
    ),
    (
        "packet_pointer_stale",
        "6.18",
        (
            "16: (15) if r7 == 0x0 goto pc+13      ; R7=rdonly_mem(sz=14)\n"
            "26: (85) call bpf_dynptr_write#202\n"
            "27: (71) r6 = *(u8 *)(r7 +1)\n"
            "R7 invalid mem access 'scalar'"
        ),
        {},
    ),
    (
        "use_after_unlock",
        "6.18",
        (
            "24: (85) call bpf_rbtree_add_impl#65467       ; R0=scalar() R6=ctx() "
            "R7=ptr_departure(non_own_ref) R10=fp0\n"
            "27: (85) call bpf_spin_unlock#94      ;\n"
            "28: (79) r1 = *(u64 *)(r7 +32)\n"
            "R7 invalid mem access 'scalar'"
        ),
        {},
    ),
    (
        "use_after_unlock",
        "6.18",
        (
            "3: (79) r6 = *(u64 *)(r6 +1280)       ; R6=rcu_ptr_task_struct()\n"
            "4: (85) call bpf_rcu_read_unlock#65483        ;\n"
            "5: (bf) r1 = r6                       ; R1=untrusted_ptr_task_struct() R6=untrusted_ptr_task_struct()\n"
            "6: (85) call bpf_task_acquire#65895\n"
            "R1 must be a rcu pointer"
        ),
        {},
    ),
    (
        "not_a_pointer",
        "6.18",
        (
            "49: (18) r3 = 0xffffc900029e1000      ; R3=map_value(map=a.data,ks=4,vs=32)\n"
            "53: (79) r2 = *(u64 *)(r3 +8)         ; R2=scalar()\n"
            "68: (71) r4 = *(u8 *)(r2 +0)\n"
            "R2 invalid mem access 'scalar'"
        ),
        {},
    ),
    (
        "argument_mismatch",
        "6.18",
        (
            "0: R1=ctx() R10=fp0\n"
            "1: (79) r1 = *(u64 *)(r1 +0)          ; R1=scalar()\n"
            "4: (61) r2 = *(u32 *)(r1 +24)\n"
            "R1 invalid mem access 'scalar'"
        ),
        {"section": "tp_btf/sched_switch"},
    ),
    (
        "not_a_pointer",
        "6.18",
        (
            "0: R1=ctx() R10=fp0\n"
            "0: (79) r1 = *(u64 *)(r1 +112)        ; R1=scalar()\n"
            "1: (61) r0 = *(u32 *)(r1 +0)\n"
            "R1 invalid mem access 'scalar'"
        ),
        {"section": "uprobe"},
    ),
    (
        "not_a_pointer",
        "6.18",
        (
            "0: R1=ctx() R10=fp0\n"
            "0: (79) r1 = *(u64 *)(r1 +24)         ; R1=scalar()\n"
            "1: (71) r1 = *(u8 *)(r1 +0)\n"
            "R1 invalid mem access 'scalar'"
        ),
        {"section": "tp/syscalls/sys_enter_openat"},
    ),
    (
        "not_a_pointer",
        "6.18",
        (
            "0: (85) call bpf_get_current_task#35          ; R0=scalar()\n"
            "1: (61) r0 = *(u32 *)(r0 +1264)\n"
            "R0 invalid mem access 'scalar'"
        ),
        {"section": "tp/sched/sched_switch"},
    ),
    ("inner_map_as_value", "6.18", ("11: (db) lock *(u64 *)(r0 +0) += r1\nonly read from bpf_array is supported"), {}),
    ("read_only_memory", "6.18", ("10: (63) *(u32 *)(r2 +0) = r1\nwrite to change key R2 not allowed"), {}),
    (
        "read_only_memory",
        "6.18",
        "3: (63) *(u32 *)(r1 +0) = r2\nwrite into map forbidden, value_size=4 off=0 size=4",
        {},
    ),
    (
        "missing_capability",
        "6.18",
        "program of this type cannot use helper bpf_probe_read#4",
        {"capabilities": 1 << 39},
    ),
    ("helper_not_allowed", "6.12", ("12: (85) call bpf_d_path#147\nhelper call is not allowed in probe"), {}),
    (
        "map_not_for_sleepable",
        "6.18",
        "Sleepable programs can only use array, hash, ringbuf and local storage maps",
        {},
    ),
    ("map_field_not_for_program", "6.18", "socket filter progs cannot use bpf_spin_lock yet", {}),
    (
        "map_of_another_field",
        "6.18",
        (
            "39: (bf) r1 = r7                      ; R1=map_value(map=flows6,ks=16,vs=24,off=8)\n"
            "40: (18) r2 = 0xffff8881ed395000      ; R2=map_ptr(map=flows4,ks=4,vs=24)\n"
            "43: (85) call bpf_timer_init#169\n"
            "timer pointer in R1 map_uid=0 doesn't match map pointer in R2 map_uid=0"
        ),
        {},
    ),
    (
        "field_not_for_map",
        "6.18",
        "14: (85) call bpf_spin_lock#93\nmap 'buckets' has to have BTF in order to use bpf_spin_lock",
        {"told": (facts.MAPS_AS_DECLARED,)},
    ),
    (
        "field_not_for_map",
        "6.18",
        "10: (85) call bpf_spin_lock#93\nmap 'm' has to have BTF in order to use bpf_spin_lock",
        {},
    ),
    (
        "untrusted_pointer",
        "6.18",
        (
            "17: (79) r1 = *(u64 *)(r8 +1288)      ; R1=ptr_task_struct() R8=trusted_ptr_task_struct()\n"
            "18: (85) call bpf_task_acquire#65895\n"
            "R1 must be a rcu pointer"
        ),
        {},
    ),
    ("lock_held", "6.18", ("21: (85) call bpf_spin_lock#93\nfunction calls are not allowed while holding a lock"), {}),
    ("lock_held", "6.18", ("9: (85) call bpf_ktime_get_ns#5\nfunction calls are not allowed while holding a lock"), {}),
    (
        "lock_held",
        "6.18",
        "20: (95) exit\nBPF_EXIT instruction in main prog cannot be used inside bpf_spin_lock-ed region",
        {},
    ),
    (
        "reference_leak",
        "6.18",
        "31: (85) call bpf_ringbuf_reserve_dynptr#198\n57: (95) exit\nUnreleased reference id=5 alloc_insn=31",
        {},
    ),
    ("constant_argument", "6.18", ("40: (85) call bpf_dynptr_slice#63895\nR4 must be a known constant"), {}),
    ("constant_string", "6.18", ("12: (85) call bpf_snprintf#165\nR3 type=fp expected=map_value"), {}),
    ("field_of_map_missed", "6.18", ("8: (85) call bpf_timer_init#169\nR1 type=fp expected=map_value"), {}),
    (
        "bad_argument_type",
        "6.18",
        (
            "13: (85) call bpf_map_lookup_elem#1\n"
            "R2 type=ctx expected=fp, pkt, pkt_meta, map_key, map_value, mem, ringbuf_mem, buf, trusted_ptr_"
        ),
        {},
    ),
    (
        "not_a_pointer",
        "6.18",
        "2: (85) call bpf_task_pt_regs#175\nR1 type=scalar expected=ptr_, trusted_ptr_, rcu_ptr_",
        {},
    ),
    (
        "return_value_range",
        "6.18",
        (
            "0: (b7) r0 = 5                        ; R0=5\n"
            "1: (95) exit\n"
            "At program exit the register R0 has smin=5 smax=5 should have been in [0, 1]"
        ),
        {},
    ),
    (
        "return_value_range",
        "6.12, progs/exceptions_fail.c of the kernel's own tests",
        "At program exit the register R1 has smin=64 smax=64 should have been in [0, 0]",
        {},
    ),
    (
        "atomic_not_allowed",
        "6.18",
        "6: (db) lock *(u64 *)(r1 +0) += r2\nBPF_ATOMIC stores into R1 pkt is not allowed",
        {},
    ),
    ("context_access", "6.1", "BPF_ST stores into R1 ctx is not allowed", {}),
    (
        "tail_call_incompatible",
        "the figures of a good load",
        "verification time 31 usec\nstack depth 0",
        {"errno": errno.EINVAL},
    ),
    ("jit_failed", "the figures of a good load", "verification time 31 usec\nstack depth 0", {"errno": 524}),
    ("verifier_refused", "made up", "the moon is not full", {}),
]

LIBBPF = [  # (code, origin, libbpf's lines, further arguments)
    (
        "no_kernel_btf",
        "libbpf",
        ["failed to find valid kernel BTF", "Error loading vmlinux BTF: -3"],
        {"errno": errno.ESRCH},
    ),
    (
        "no_kernel_btf",
        "libbpf",
        ["kernel BTF is missing at '/sys/kernel/btf/vmlinux', was CONFIG_DEBUG_INFO_BTF enabled?"],
        {},
    ),
    (
        "old_libbpf_btf",
        "bcc#4815",
        ["Unsupported BTF_KIND:19", "failed to find valid kernel BTF", "Error loading vmlinux BTF: -3"],
        {},
    ),
    ("old_libbpf_btf", "libbpf 1.4", ["btf: type [123]: unrecognized kind 20", "failed to find valid kernel BTF"], {}),
    ("object_without_btf", "libbpf#678", ["BTF is required, but is missing or corrupted."], {}),
    ("kernel_refuses_btf", "libbpf", ["Error loading .BTF into kernel: -22. BTF is mandatory, can't proceed."], {}),
    ("attach_target_missing", "6.18", ["prog 'p': failed to find kernel BTF type ID of 'no_such': -3"], {}),
    (
        "core_relocation_failed",
        "libbpf",
        ["prog 'p': relo #3: target candidate search failed for [7] struct foo: -2"],
        {},
    ),
    ("symbol_missing", "libbpf", ["extern (var ksym) 'nope': not found in kernel BTF"], {}),
    (
        "unknown_section",
        "libbpf 0.x",
        ["prog 'p': failed to guess program type from ELF section 'foo/bar'"],
        {"errno": 3},
    ),
    ("unknown_section", "libbpf", ["prog 'p': section 'uprobe/app' missing ':function[+offset]' specification"], {}),
    ("symbol_missing", "libbpf", ["failed to find BTF for extern 'memcmp': -2"], {}),
    (
        "kfunc_signature",
        "libbpf",
        ["extern (func ksym) 'bpf_put_file': func_proto [9] incompatible with vmlinux [7]"],
        {},
    ),
    ("program_is_static", "libbpf", ["sec 'xdp': program 'p' is static and not supported"], {}),
    (
        "struct_ops_mismatch",
        "libbpf",
        ["struct_ops init_kern: struct tcp_congestion_ops is not found in kernel BTF"],
        {},
    ),
    ("map_definition", "libbpf", ["map 'hits': unsupported map linkage static."], {}),
    ("map_definition", "libbpf", ["map 'hits': map type isn't specified."], {}),
    (
        "replaced_program_missing",
        "6.18",
        ["prog 'p': BPF program load failed: Invalid argument"],
        {"errno": errno.EINVAL, "section": "freplace/handle"},
    ),
    (
        "inner_map_undefined",
        "6.18",
        ["map 'outer': failed to create: Invalid argument(-22)"],
        {"errno": errno.EINVAL, "told": (facts.map_type("hash_of_maps"),)},
    ),
    ("legacy_map", "libbpf", ["elf: legacy map definitions in 'maps' section are not supported by libbpf v1.0+"], {}),
    (
        "map_mismatch",
        "6.18",
        [
            "couldn't reuse pinned map at '/sys/fs/bpf/cnt': parameter mismatch",
            "map 'cnt': error reusing pinned map",
            "map 'cnt': failed to create: Invalid argument(-22)",
        ],
        {"errno": errno.EINVAL},
    ),
    ("map_no_memory", "bcc#3453", ["map 'm': failed to create: Cannot allocate memory(-12)"], {"errno": errno.ENOMEM}),
    ("map_no_memory", "libbpf 1.6", ["map 'm': failed to create: -ENOMEM"], {"errno": errno.ENOMEM}),
    ("map_too_big", "libbpf 1.6", ["map 'm': failed to create: -E2BIG"], {"errno": errno.E2BIG}),
    ("unsupported_map_type", "libbpf 1.6", ["map 'm': failed to create: -EINVAL"], {"errno": errno.EINVAL}),
    (
        "map_unsized",
        "6.18, libbpf-tools/cpudist",
        ["map 'start': failed to create: Invalid argument(-22)"],
        {"errno": errno.EINVAL, "told": (facts.map_type("hash"), facts.unsized("max_entries"))},
    ),
    (
        "map_unsized",
        "6.18, a stack trace map without its depth",
        ["map 'stacks': failed to create: Invalid argument(-22)"],
        {"errno": errno.EINVAL, "told": (facts.map_type("stack_trace"), facts.unsized("value_size"))},
    ),
    (
        "unsupported_map_type",
        "6.1, a map of 6.9",
        ["map 'm': failed to create: Invalid argument(-22)"],
        {"errno": errno.EINVAL, "told": (facts.map_type("arena"), facts.MAP_TYPE_REFUSED)},
    ),
    (
        "memlock",
        "failure-modes.md F14",
        ["map 'm': failed to create: Operation not permitted(-1)", ROOT_EPERM[1]],
        {"errno": errno.EPERM, "kernel": "5.10.0-28-amd64"},
    ),
    (
        "missing_capability",
        "failure-modes.md F14",
        ["map 'm': failed to create: Operation not permitted(-1)", ROOT_EPERM[1]],
        {"errno": errno.EPERM, "kernel": "6.1.0"},
    ),
    ("missing_capability", "6.18", ROOT_EPERM, {"errno": errno.EPERM, "section": "xdp"}),
    (
        "denied_by_policy",
        "6.18",
        ROOT_EPERM,
        {"errno": errno.EPERM, "section": "lsm/x", "capabilities": ALL_CAPABILITIES},
    ),
    (
        "lockdown",
        "6.18, fentry on this kernel",
        ROOT_EPERM,
        {
            "errno": errno.EPERM,
            "section": "fentry/vfs_read",
            "capabilities": ALL_CAPABILITIES,
            "lockdown": "none [integrity] confidentiality\n",
        },
    ),
    (
        "lockdown",
        "6.18, LSM on this kernel",
        ROOT_EPERM,
        {
            "errno": errno.EPERM,
            "section": "lsm/file_open",
            "capabilities": ALL_CAPABILITIES,
            "lockdown": "none integrity [confidentiality]\n",
            "told": (facts.PROGRAM_TYPE_REFUSED,),
        },
    ),
    (
        "unsupported_attach_type",
        "6.1, an attach type of 6.10",
        ["prog 'p': BPF program load failed: Invalid argument"],
        {"errno": errno.EINVAL, "told": (facts.PROGRAM_TYPE_LOADS,)},
    ),
    ("tail_target_missing", "libbpf", ["map 'jumps': failed to initialize slot [1] to prog 'p' fd=-1: -9"], {}),
    ("tail_call_incompatible", "libbpf", ["map 'jumps': failed to initialize slot [0] to prog 'p' fd=7: -22"], {}),
    (
        "unsupported_program_type",
        "6.18",
        ["prog 'p': BPF program load failed: Invalid argument"],
        {"errno": errno.EINVAL},
    ),
    (
        "too_many_instructions",
        "5.8",
        ["prog 'p': BPF program load failed: Argument list too long"],
        {"errno": errno.E2BIG},
    ),
    ("no_memory", "6.x", ["prog 'p': BPF program load failed: Cannot allocate memory"], {"errno": errno.ENOMEM}),
    ("log_too_small", "5.x", ["prog 'p': BPF program load failed: No space left on device"], {"errno": errno.ENOSPC}),
    (
        "loader_killed",
        "failure-modes.md F19",
        ["RIP: 0010:maybe_fork_scalars+0x4a/0x120", "the loader: exit status 137"],
        {},
    ),
    ("symbol_missing", "6.18", ["extern 'CONFIG_NO_SUCH_THING' (strong): not resolved"], {}),
    (
        "struct_ops_mismatch",
        "libbpf",
        ["prog 'p': SEC(\"struct_ops\") program isn't referenced anywhere, did you forget to use it?"],
        {},
    ),
    (
        "map_shape",
        "6.18",
        ["map 'forbidden': failed to create: Invalid argument(-22)"],
        {
            "errno": errno.EINVAL,
            "told": (facts.map_type("queue"), facts.demanded("it has no key", "__type(value, …); alone")),
        },
    ),
    (
        "missing_capability",
        "6.18",
        ["prog 'p': BPF program load failed: Operation not permitted"],
        {"errno": errno.EPERM, "section": "xdp"},
    ),
]


def diagnosed(words, more):
    """After one harmless step, which words with steps of their own go on from."""
    log = f"; x = 1; @ a.bpf.c:7\n2: (b7) r1 = 1                        ; R1_w=1\n{words}\n{COUNT}"
    return diagnosis.diagnose(log, **{"errno": errno.EACCES, "program": "p", "section": "xdp", **more})


@pytest.mark.parametrize(("code", "origin", "words", "more"), LOGS)
def test_verifier_words_give_the_code(code, origin, words, more):
    found = diagnosed(words, more)

    assert found.code == code
    assert_whole(found)


@pytest.mark.parametrize(("code", "origin", "lines", "more"), LIBBPF)
def test_libbpf_words_give_the_code(code, origin, lines, more):
    found = diagnosis.diagnose("", program="p", libbpf_log=lines, **more)

    assert found.code == code
    assert_whole(found)


def test_every_rule_answers_a_log_that_no_rule_above_it_answers(monkeypatch):
    """A rule without one would be a guess, or out of reach."""
    answering, first_match = set(), diagnosis.first_match

    def noted(words, known):
        rule, groups = first_match(words, known)
        answering.add(rule)
        return rule, groups

    monkeypatch.setattr(diagnosis, "first_match", noted)
    for dummy, dummy, words, more in LOGS:
        diagnosed(words, more)
    for dummy, dummy, lines, more in LIBBPF:
        diagnosis.diagnose("", program="p", libbpf_log=lines, **more)

    assert len(set(order.RULES)) == len(order.RULES)
    assert [(rule.code, rule.pattern, rule.when) for rule in order.RULES if rule not in answering] == []


@pytest.mark.parametrize(
    "misspelt",
    [lambda: facts.errno("EPREM"), lambda: facts.lacks("CAP_BPF_"), lambda: facts.lockdown("integrity", "privacy")],
)
def test_misspelt_fact_is_an_error(misspelt):
    with pytest.raises(ValueError, match=r"EPREM|CAP_BPF_|privacy"):
        misspelt()


def test_codes_that_are_no_verdict_are_codes():
    assert {*form.NO_VERDICT} <= {rule.code for rule in order.RULES}


@pytest.mark.parametrize("old_line", ["R0 invalid mem access 'map_value_or_null'\n", ""])
def test_log_with_headings(old_line):
    """Linux 7.3: code, place and registers, with the old line or, should it go one day, without."""
    found = diagnosis.diagnose(HEADED.format(old_line=old_line) + COUNT, errno=errno.EACCES, program="count")

    assert found.code == "null_not_checked"
    assert found.source == {"file": "count.bpf.c", "line": 19, "text": "return *value;"}
    assert found.instruction == 5
    assert found.registers["R0"].startswith("map_value_or_null")


def test_log_with_headings_and_no_source():
    """As recorded in cilium/ebpf#2111."""
    log = (
        "0: R1=ctx() R10=fp0\n0: (95) exit\nR0 !read_ok\n"
        "\nVerification failed: Register Type Safety: Unreadable register\n"
        "\nReason:\n  R0 has never been initialized on this path, so the verifier cannot use it as an input.\n"
        "\nAt:\n  insn 0\n"
        "       | ^-- error: R0 is not readable\n  Instruction context:\n  >>> 0 | (95) exit\n\nCausal path:\n"
        "  no retained diagnostic events on this path\n\nSuggestion:\n"
        f"  Initialize R0 on every path before this instruction.\n\n{COUNT}"
    )
    found = diagnosis.diagnose(
        log, errno=errno.EACCES, program="p", line_at=lambda number: ("a.bpf.c", 3 + number, "}")
    )

    assert (found.code, found.instruction) == ("uninitialised_register", 0)
    assert "return" in found.fix
    assert found.source == {"file": "a.bpf.c", "line": 3, "text": "}"}


def test_old_log_gives_the_text_and_the_last_state():
    log = (
        "; value = bpf_map_lookup_elem(&hits, &zero);\n5: (85) call bpf_map_lookup_elem#1\n"
        "6: R0_w=map_value_or_null(id=1,off=0,ks=4,vs=8,imm=0) R10=fp0 fp-8=0000????\n; *value += 1;\n"
        "6: (79) r1 = *(u64 *)(r0 +0)\nR0 invalid mem access 'map_value_or_null'\n"
    )
    found = diagnosis.diagnose(log + COUNT, errno=errno.EACCES, program="p")

    assert found.source == {"file": None, "line": None, "text": "*value += 1;"}
    assert "*value += 1;" in found.summary
    assert found.registers["R0"] == "map_value_or_null(id=1,off=0,ks=4,vs=8,imm=0)"
    assert found.registers["fp-8"] == "0000????"


def test_line_of_a_jump_that_was_never_walked():
    log = "7: for (i = 0; i < n; i++) @ loop.bpf.c:12\n2: x += i; @ loop.bpf.c:13\nback-edge from insn 7 to 2\n" + COUNT
    found = diagnosis.diagnose(log, errno=errno.EINVAL, program="p")
    assert (found.instruction, found.source["line"]) == (7, 12)


def test_reference_leak_points_to_where_it_is_acquired():
    log = (
        "; event = bpf_ringbuf_reserve(&events, 4, 0); @ a.bpf.c:14\n5: (85) call bpf_ringbuf_reserve#131\n"
        "; return 0; @ a.bpf.c:20\n14: (95) exit\nUnreleased reference id=2 alloc_insn=5\n" + COUNT
    )
    found = diagnosis.diagnose(log, errno=errno.EINVAL, program="p")
    assert (found.instruction, found.source["line"]) == (5, 14)


def test_leak_names_the_call_and_what_gives_it_back():
    log = (
        "; if (bpf_ringbuf_reserve_dynptr(&events, 8, 0, &ptr)) @ a.bpf.c:9\n"
        "25: (85) call bpf_ringbuf_reserve_dynptr#198          ; R0=scalar() fp-32=dynptr_ringbuf(id=4,ref_id=5)\n"
        "; return 0; @ a.bpf.c:10\n52: (95) exit\nUnreleased reference id=5 alloc_insn=25\n"
    )
    found = diagnosis.diagnose(log + COUNT, errno=errno.EINVAL, program="p")
    assert (found.code, found.source["line"]) == ("reference_leak", 9)
    assert "bpf_ringbuf_reserve_dynptr" in found.summary
    assert "bpf_ringbuf_discard_dynptr(&ptr, 0); discard it even when the reservation failed" in found.fix

    found = diagnosis.diagnose(log.replace("_ringbuf_reserve_dynptr#198", "_iter_task_new#52112") + COUNT, program="p")
    assert "bpf_iter_task_destroy(&it)" in found.fix


@pytest.mark.parametrize(
    ("held", "call", "words", "code"),
    [
        ("ptr_node(non_own_ref)", "bpf_spin_unlock#94", "R1 invalid mem access 'scalar'", "use_after_unlock"),
        ("rcu_ptr_task_struct()", "bpf_rcu_read_unlock#6", "R1 must be referenced or trusted", "use_after_unlock"),
        ("pkt(off=14,r=34)", "bpf_skb_store_bytes#9", "R1 invalid mem access 'scalar'", "packet_pointer_stale"),
        ("mem(sz=14)", "bpf_dynptr_write#202", "R1 invalid mem access 'scalar'", "packet_pointer_stale"),
        ("pkt(off=14,r=34)", "bpf_sk_release#86", "R1 invalid mem access 'scalar'", "not_a_pointer"),
        ("ptr_node(ref_obj_id=2)", "bpf_obj_drop_impl#7", "R1 invalid mem access 'scalar'", "use_after_release"),
        ("ptr_node(ref_obj_id=2)", "bpf_skb_store_bytes#9", "R1 invalid mem access 'scalar'", "not_a_pointer"),
    ],
)
def test_pointer_that_a_call_ended_is_told_by_what_it_was(held, call, words, code):
    """Only the calls that end a pointer of this kind count; what is moved to another register or the stack stays it."""
    log = (
        f"3: (bf) r6 = r0                       ; R0={held} R6={held}\n"
        f"4: (7b) *(u64 *)(r10 -8) = r6         ; R6={held} R10=fp0 fp-8_w={held}\n"
        f"5: (85) call {call}         ; R0=scalar()\n6: (85) call bpf_ktime_get_ns#5\n"
        f"7: (79) r1 = *(u64 *)(r10 -8)         ; R1=scalar()\n; x = p->x; @ a.bpf.c:9\n8: (79) r2 = *(u64 *)(r1 +8)\n"
    )
    found = diagnosis.diagnose(f"{log}{words}\n{COUNT}", errno=errno.EACCES, program="p", section="tc")

    assert (found.code, found.source["line"]) == (code, 9)
    assert_whole(found)
    if code != "not_a_pointer":
        assert call.partition("#")[0] in found.summary


@pytest.mark.parametrize(
    ("section", "code", "line"),
    [("tp_btf/sched_switch", "argument_mismatch", 3), ("raw_tp/sched_switch", "not_a_pointer", 9)],
)
def test_argument_that_is_a_number_is_told_from_an_address(section, code, line):
    log = (
        "0: R1=ctx() R10=fp0\n; int BPF_PROG(p, struct task_struct *prev) @ a.bpf.c:3\n"
        "0: (79) r6 = *(u64 *)(r1 +8)          ; R1=ctx() R6_w=scalar()\n; x = prev->pid; @ a.bpf.c:9\n"
        "1: (61) r2 = *(u32 *)(r6 +24)\nR6 invalid mem access 'scalar'\n"
    )
    found = diagnosis.diagnose(log + COUNT, errno=errno.EACCES, program="p", section=section)

    assert (found.code, found.source["line"]) == (code, line)
    assert_whole(found)
    if code == "argument_mismatch":
        assert (found.named["function"], found.named["argument"]) == ("sched_switch", "1")


def test_symbol_that_libbpf_refuses_is_shown_where_it_is_used():
    lines = ["libbpf: extern (func ksym) 'bpf_one': func_proto [24] incompatible with vmlinux [636]"]
    found = diagnosis.diagnose(
        "", errno=errno.EINVAL, libbpf_log=lines, use_of={"bpf_one": ("a.bpf.c", 7, "\tbpf_one(1);")}.get
    )
    assert (found.code, found.source) == ("kfunc_signature", {"file": "a.bpf.c", "line": 7, "text": "bpf_one(1);"})
    assert found.summary.startswith("a.bpf.c:7: ")


def test_value_returned_is_blamed_where_it_was_made():
    """Through a copy, the stack and a function that was called in between and uses the same registers."""
    log = (
        "; verdict = 7; @ a.bpf.c:5\n0: (b7) r6 = 7                        ; R6_w=7\n"
        "1: (7b) *(u64 *)(r10 -8) = r6         ; R6_w=7 R10=fp0 fp-8_w=7\n"
        "; count(); @ a.bpf.c:6\n2: (85) call pc+5\n; *hits += 1; @ a.bpf.c:20\n8: (b7) r6 = 0\n9: (b7) r0 = 0\n"
        "10: (95) exit\n; return verdict; @ a.bpf.c:7\n3: (79) r7 = *(u64 *)(r10 -8)\n4: (bf) r0 = r7\n"
        "; } @ a.bpf.c:8\n5: (95) exit\nAt program exit the register R0 has smin=7 smax=7 should have been in [0, 1]\n"
    )
    found = diagnosis.diagnose(log + COUNT, errno=errno.EINVAL, program="p")
    assert (found.code, found.source["line"], found.instruction) == ("return_value_range", 5, 0)


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (11, "; if (*n == 7) @ a.bpf.c:11\n6: (15) if r1 == 0x7\n"),
        (
            12,
            "; if (*n == 7) @ a.bpf.c:11\n6: (15) if r1 == 0x7\n; return 1; @ a.bpf.c:12\n10: (b7) r0 = 1\n",
        ),
        (10, ""),
    ],
)
def test_region_left_locked_is_blamed_on_the_step_that_leaves_it(line, path):
    log = (
        "; if (!value) @ a.bpf.c:9\n3: (15) if r6 == 0x0 goto pc+9\n4: (b7) r0 = 0\n"
        "; bpf_spin_lock(&value->lock); @ a.bpf.c:10\n5: (85) call bpf_spin_lock#93\n"
        f"{path}; }} @ a.bpf.c:15\n13: (95) exit\n"
        "BPF_EXIT instruction in main prog cannot be used inside bpf_spin_lock-ed region\n"
    )
    found = diagnosis.diagnose(log + COUNT, errno=errno.EINVAL, program="p")
    assert (found.code, found.source["line"]) == ("lock_held", line)
    assert "taken in line 10" in found.summary


def test_stack_is_blamed_on_what_lies_deepest_in_the_largest_frame():
    log = (
        "func#0 @0\nfunc#1 @4\n; __u64 small = 0; @ a.bpf.c:20\n0: (7b) *(u64 *)(r10 -8) = r1\n; name(); @ a.bpf.c:21\n"
        "1: (85) call pc+2\n; char text[300] = {}; @ a.bpf.c:5\n4: (7b) *(u64 *)(r10 -296) = r1\n"
        "5: (7b) *(u64 *)(r10 -304) = r1\n; key = 0; @ a.bpf.c:6\n6: (63) *(u32 *)(r10 -4) = r1\n"
        "combined stack size of 2 calls is 520. Too large\nverification time 31 usec\nstack depth 8+304\n"
    )
    found = diagnosis.diagnose(log + COUNT, errno=errno.EACCES, program="p")
    assert (found.code, found.source["line"]) == ("stack_too_large", 5)


@pytest.mark.parametrize(
    ("code", "call", "state"),
    [
        ("packet_pointer_stale", "bpf_xdp_adjust_head#44", "pkt(r=14)"),
        ("use_after_release", "bpf_ringbuf_submit#132", "ringbuf_mem(ref_id=2,sz=8)"),
        ("not_a_pointer", "bpf_ktime_get_ns#5", "pkt(r=14)"),
        ("not_a_pointer", "bpf_xdp_adjust_head#44", "map_value(map=hits,ks=4,vs=8)"),
    ],
)
def test_pointer_that_a_call_ended_is_told_from_a_number(code, call, state):
    """It lived in R6 over the call, and was copied since."""
    log = (
        f"4: (bf) r6 = r0                       ; R0={state} R6_w={state}\n9: (85) call {call}\n"
        "; *value = 1; @ a.bpf.c:14\n10: (bf) r2 = r6\n11: (7b) *(u64 *)(r2 +0) = r3\nR2 invalid mem access 'scalar'\n"
    )
    found = diagnosis.diagnose(log + COUNT, errno=errno.EACCES, program="p", section="xdp")
    assert (found.code, found.source["line"]) == (code, 14)
    if code != "not_a_pointer":
        assert call.partition("#")[0] in found.summary


@pytest.mark.parametrize(
    ("section", "advised"), [("uprobe", "bpf_probe_read_user(&value"), ("kprobe/do_nanosleep", "BPF_CORE_READ(")]
)
def test_number_out_of_the_context_is_copied_from_where_it_lies(section, advised):
    log = (
        "0: R1=ctx() R10=fp0\n0: (79) r6 = *(u64 *)(r1 +112)         ; R1=ctx() R6_w=scalar()\n"
        "1: (61) r3 = *(u32 *)(r6 +0)\nR6 invalid mem access 'scalar'\n"
    )
    found = diagnosis.diagnose(log + COUNT, errno=errno.EACCES, program="p", section=section)
    assert found.code == "not_a_pointer"
    assert found.fix.startswith("Copy through a helper: " + advised)


def test_weak_kfunc_that_this_kernel_lacks_is_no_forgotten_variable():
    log = (
        "; value = bpf_no_such(); @ a.bpf.c:11\n0: (85) call #0                       ;\n"
        "; return value & 1; @ a.bpf.c:12\n1: (57) r0 &= 1\nR0 !read_ok\n"
    )
    found = diagnosis.diagnose(log + COUNT, errno=errno.EACCES, program="p")
    assert (found.code, found.source["line"]) == ("kfunc_missing", 11)

    found = diagnosis.diagnose(log.replace("call #0", "call pc+7") + COUNT, errno=errno.EACCES, program="p")
    assert found.code == "uninitialised_register"


@pytest.mark.parametrize(
    ("said", "held", "code", "mover"),
    [
        ("Func#1 ('linearize') is global and assumed valid.", "pkt(r=14)", "packet_pointer_stale", "linearize"),
        ("Func#1 is global and valid. Skipping.", "pkt(r=14)", "packet_pointer_stale", "the global function"),
        ("Func#1 ('linearize') is global and assumed valid.", "sock()", "not_a_pointer", ""),
    ],
)
def test_packet_pointer_goes_with_a_global_function_too(said, held, code, mover):
    log = (
        f"1: (bf) r6 = r0                       ; R0={held} R6={held}\n22: (85) call pc+24\n{said}\n23: R0=scalar()\n"
        "; port = udp->dest; @ a.bpf.c:9\n28: (07) r6 += 34\n29: (69) r1 = *(u16 *)(r6 +2)\n"
        "R6 invalid mem access 'scalar'\n"
    )
    found = diagnosis.diagnose(log + COUNT, errno=errno.EACCES, program="p", section="tc")
    assert (found.code, found.named.get("mover", "")) == (code, mover)

    log = log.replace("22: ", "21: (85) call bpf_skb_pull_data#39\n22: ")
    assert diagnosis.diagnose(log + COUNT, program="p", section="tc").named.get("mover", "") == (
        mover and "bpf_skb_pull_data"
    )


@pytest.mark.parametrize(("map_name", "is_table"), [("a.rodata", True), ("a.data", True), ("hits", False)])
def test_pointer_out_of_a_table_is_told_from_other_numbers(map_name, is_table):
    """What is read there lived in another register, and had an index added."""
    log = (
        f"49: (18) r3 = 0xffffc900029e1000      ; R3=map_value(map={map_name},ks=4,vs=32)\n"
        "53: (79) r2 = *(u64 *)(r3 +8)         ; R2=scalar()\n63: (bf) r4 = r2\n64: (0f) r4 += r1\n"
        "; char c = names[1][i]; @ a.bpf.c:22\n68: (71) r4 = *(u8 *)(r4 +0)\nR4 invalid mem access 'scalar'\n"
    )
    found = diagnosis.diagnose(log + COUNT, errno=errno.EACCES, program="p")
    assert (found.code, found.source["line"]) == ("not_a_pointer", 22)
    assert ("names[][16]" in found.fix) == is_table


def test_constant_returned_without_a_line_is_blamed_on_the_callback_it_is_in():
    """The line above it is that of a call: the compiler gave the constant none."""
    log = (
        "; bpf_timer_set_callback(&f->timer, idle); @ a.bpf.c:52\n"
        "46: (85) call bpf_timer_set_callback#170 58: R1=map_ptr(map=flows,ks=4,vs=32) R10=fp0 async_cb\n"
        "; static int idle(void *map, __u32 *key, struct flow *f) @ a.bpf.c:22\n58: (bf) r6 = r3\n"
        "; count(); @ a.bpf.c:24\n59: (85) call pc+9\n69: (b7) r0 = 0\n70: (95) exit\n"
        "; bpf_timer_start(&f->timer, IDLE, 0); @ a.bpf.c:26\n60: (bf) r1 = r6\n61: (85) call bpf_timer_start#171\n"
        "62: (b7) r0 = 1\n; } @ a.bpf.c:31\n63: (95) exit\n"
        "At async callback return the register R0 has smin=1 smax=1 should have been in [0, 0]\n"
    )
    found = diagnosis.diagnose(log + COUNT, errno=errno.EINVAL, program="p")
    assert (found.code, found.source["line"]) == ("return_value_range", 22)
    assert found.summary.endswith("is 1, and only those in [0, 0] are allowed here")

    without_call = log.replace("61: (85) call bpf_timer_start#171\n", "61: (07) r1 += 8\n")
    assert diagnosis.diagnose(without_call + COUNT, errno=errno.EINVAL, program="p").source["line"] == 26


def test_map_without_types_is_told_from_one_that_was_created_without():
    log = "14: (85) call bpf_spin_lock#93\nmap 'buckets' has to have BTF in order to use bpf_spin_lock\n" + COUNT
    assert "__type(value" in diagnosis.diagnose(log, program="p", told=(facts.MAPS_AS_DECLARED,)).fix
    assert "per-CPU" in diagnosis.diagnose(log, program="p").fix


def test_number_made_after_a_release_is_not_taken_for_what_was_released():
    log = (
        "4: (bf) r6 = r0                       ; R0=sock(ref_obj_id=2) R6_w=sock(ref_obj_id=2)\n5: (bf) r1 = r6\n"
        "6: (85) call bpf_sk_release#86\n7: (b7) r6 = 7\n8: (61) r2 = *(u32 *)(r6 +0)\nR6 invalid mem access 'scalar'\n"
    )
    assert diagnosis.diagnose(log + COUNT, errno=errno.EACCES, program="p").code == "not_a_pointer"


def test_constant_string_on_the_stack_is_named_by_the_call():
    log = "16: (85) call bpf_snprintf#165\nR3 type=fp expected=map_value\n"
    assert diagnosis.diagnose(log + COUNT, errno=errno.EACCES, program="p").code == "constant_string"
    log = log.replace("snprintf", "timer_init")
    assert diagnosis.diagnose(log + COUNT, errno=errno.EACCES, program="p").code == "field_of_map_missed"


def test_field_with_the_map_of_another_names_both():
    log = (
        "0: (bf) r1 = r6                       ; R1_w=map_value(map=flows6,ks=16,vs=24,off=8)\n"
        "1: (18) r2 = 0xffff88810592e800       ; R2_w=map_ptr(map=flows4,ks=4,vs=24)\n3: (85) call bpf_timer_init#169\n"
        "timer pointer in R1 map_uid=0 doesn't match map pointer in R2 map_uid=0\n"
    )
    found = diagnosis.diagnose(log + COUNT, errno=errno.EINVAL, program="p")
    assert "value of map flows6, but map flows4 is given" in found.summary


def test_step_that_shows_the_stack_pointer_is_no_whole_state():
    """Only a line of registers alone is; what an instruction shows is what it touched."""
    log = (
        "57: (0f) r1 += r2                     ; R1=map_value(map=rows,ks=4,vs=256,smax=0xffffffff) R2=scalar()\n"
        "58: (79) r3 = *(u64 *)(r10 -16)       ; R3=scalar() R10=fp0 fp-16=mmmmmmmm\n"
        "60: (85) call bpf_probe_read_user#112\n"
        "R1 unbounded memory access, make sure to bounds check any such access\n"
    )
    found = diagnosis.diagnose(log + COUNT, errno=errno.EACCES, program="p")
    assert found.code == "map_value_out_of_bounds"
    assert found.registers["R1"].startswith("map_value(map=rows")


def test_bounds_are_named_by_what_the_register_holds():
    words = "R6 unbounded memory access, make sure to bounds check any such access\n"
    for state, code in (
        ("map_value(off=0,ks=4,vs=64,imm=0)", "map_value_out_of_bounds"),
        ("pkt(id=2,off=0,r=0)", "packet_out_of_bounds"),
    ):
        log = f"3: (0f) r6 += r1                      ; R6_w={state}\n4: (71) r1 = *(u8 *)(r6 +0)\n{words}{COUNT}"
        assert diagnosis.diagnose(log, errno=errno.EACCES).code == code


def test_log_among_libbpfs_lines_is_read():
    lines = (
        f"libbpf: prog 'p': BPF program load failed: Permission denied\nlibbpf: prog 'p': -- BEGIN PROG LOAD LOG --\n"
        f"; x @ a.c:7\n2: (bf) r0 = r3\nR3 !read_ok\n{COUNT}-- END PROG LOAD LOG --\n"
        "libbpf: prog 'p': failed to load: -13"
    )
    as_lines = diagnosis.diagnose("", errno=errno.EACCES, libbpf_log=lines.splitlines())
    as_log = diagnosis.diagnose(lines, errno=errno.EACCES)
    assert as_lines.code == as_log.code == "uninitialised_register"
    assert as_lines.source["line"] == as_log.source["line"] == 7


def test_libbpfs_lines_given_as_log():
    text = (
        "libbpf: prog 'p': missing BPF prog type, check ELF section name 'xpd'\nlibbpf: prog 'p': failed to load: -22"
    )
    assert diagnosis.diagnose(text, errno=errno.EINVAL).code == "unknown_section"


def test_missing_capability_is_named_instead_of_memlock():
    for section, name in (
        ("xdp", "CAP_NET_ADMIN"),
        ("fentry/vfs_read", "CAP_PERFMON"),
        ("tp/sched/sched_switch", "CAP_PERFMON"),
    ):
        found = diagnosis.diagnose(
            "", errno=errno.EPERM, section=section, program="p", libbpf_log=ROOT_EPERM, kernel="6.18.0"
        )
        assert name in found.summary
        assert name in found.fix
    assert diagnosis.needed_capabilities("socket") == ("CAP_BPF",)


def test_fallback_quotes_the_deciding_line():
    found = diagnosis.diagnose("0: (95) exit\nthe moon is not full\n" + COUNT, errno=errno.EINVAL, program="p")
    assert (found.code, "the moon is not full" in found.summary) == ("verifier_refused", True)


def test_stats_of_a_load_that_went_well():
    log = (
        "verification time 121 usec\nstack depth 0+304+8\n"
        "processed 25 insns (limit 1000000) max_states_per_insn 1 total_states 3 peak_states 2 mark_read 0\n"
    )
    assert verifier.stats(log) == {
        "processed_insns": 25,
        "limit": 1000000,
        "max_states_per_insn": 1,
        "total_states": 3,
        "peak_states": 2,
        "stack_depth": 304,
        "stack_depths": [0, 304, 8],
        "verification_usec": 121,
    }
    assert verifier.stats("") == {}


def test_large_log_is_read_from_its_end():
    turn = "; total += i; @ a.bpf.c:12\n5: (0f) r4 += r3                      ; R3=scalar() R4=scalar()\n"
    log = turn * 500_000 + "BPF program is too large. Processed 1000001 insn\n" + COUNT
    start = time.monotonic()
    found = diagnosis.diagnose(log, errno=errno.E2BIG, program="p")

    assert len(log) > 40_000_000
    assert time.monotonic() - start < 2
    assert (found.code, found.source["line"]) == ("too_many_instructions", 12)
    assert len(found.log_excerpt) <= 40
    assert sum(len(line) + 1 for line in found.log_excerpt) <= 8192


def assert_whole(found):
    for sentence in (found.summary, found.cause, found.fix):
        assert sentence.strip()
        assert "{" not in sentence or "{ " in sentence, "a group was left unfilled"
        assert "  " not in sentence
