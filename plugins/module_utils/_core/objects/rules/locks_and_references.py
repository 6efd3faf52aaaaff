# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The verifier's words on what is held: locks, RCU, interrupts, and references to release."""

from __future__ import annotations

from . import facts
from .form import LEFT, Rule

RULES = (
    Rule(
        "lock_missing",
        r"expected an RCU CS when using|requires RCU critical section",
        "RCU must be held here, and is not",
        "What is walked or given here lives only while RCU is held; programs that may sleep do not hold it by "
        "themselves.",
        "Hold it from before the first use to after the last: bpf_rcu_read_lock(); … bpf_rcu_read_unlock(); with both "
        "declared extern void … (void) __ksym;",
    ),
    Rule(
        "lock_missing",
        r"must be held for|w/o active lock",
        "a lock must be held here, and is not",
        "Lists and trees belong to the bpf_spin_lock beside them.",
        "Take it around the call: bpf_spin_lock(&value->lock); … bpf_spin_unlock(&value->lock);",
    ),
    Rule(
        "lock_held",
        r"function calls are not allowed while holding a lock|[Ll]ocking two|AA deadlock",
        "a second lock is taken while one is held{taken}",
        "A program may hold one bpf_spin_lock at a time, since the order of two could deadlock.",
        "One after the other: copy what you need under the first, bpf_spin_unlock(&first->lock); then "
        "bpf_spin_lock(&second->lock); or put both values under one lock.",
        when=(facts.at_call(r"bpf_\w*spin_lock\w*"),),
    ),
    Rule(
        "lock_held",
        r"_unlock (?:without|of different|cannot be out)|unmatched (?:rcu|attempt)|cannot be restored",
        "a lock is released that this path does not hold",
        "It was taken on other paths only, is another lock, or was released before.",
        "Take and release it on the same path, once: bpf_spin_lock(&value->lock); … bpf_spin_unlock(&value->lock); "
        "with "
        "the same value.",
    ),
    Rule(
        "lock_held",
        r"function calls are not allowed while holding a lock|(?:helper|function) call[^\n]*(?:spin_lock|lock)-ed",
        "a function is called while a lock is held{taken}",
        "Between bpf_spin_lock and bpf_spin_unlock no call is allowed, of helpers neither.",
        "Move the call before the lock: __u64 now = bpf_ktime_get_ns(); bpf_spin_lock(&value->lock); value->last = "
        "now; "
        "bpf_spin_unlock(&value->lock);",
        when=(facts.at_call("(?!bpf_spin_lock).*"),),
    ),
    Rule(
        "lock_held",
        r"global function calls are not allowed (?:while|with)|use static function instead",
        "a global function is called where a lock is held or preemption is off{taken}",
        "A function without static is verified by itself, so what it does under the lock is not known.",
        "Make the function static (static __noinline), or call it after bpf_spin_unlock(&value->lock).",
    ),
    Rule(
        "lock_held",
        r"cannot be used inside (?P<acquirer>bpf_\w+)-ed region|(?P<acquirer__2>bpf_\w+?)(?:-ed)? is missing"
        r"|(?P<acquirer__3>bpf_\w+) is still inside|while holding a lock",
        "the program leaves here while a lock is still held{taken}",
        "Between bpf_spin_lock and bpf_spin_unlock no exit is allowed, on any path; the same holds for RCU, "
        "preemption and "
        "interrupts.",
        "Release before you leave, on this path, too: {give_back}; return 0;",
        when=(facts.AT_EXIT,),
        blame=LEFT,
    ),
    Rule(
        "irq_flag",
        r"irq flag|irq state",
        "the saved state of interrupts is not restored as it was saved",
        "Each bpf_local_irq_save needs its own variable on the stack and its own restore, the last saved first.",
        "Pair them: unsigned long flags; bpf_local_irq_save(&flags); … bpf_local_irq_restore(&flags);",
    ),
    Rule(
        "lock_held",
        r"(?:inside|while holding|in) (?:a )?(?:bpf_)?(?P<what>spin_lock|lock|rcu_read_lock|preempt_disable"
        r"|(?:local_)?irq\w*)(?:-ed|ed)?(?: region)?\b"
        r"|bpf_spin_unlock is missing|(?:bpf_)?(?P<other>rcu_read_lock|preempt_disable|local_irq_save"
        r"|spin_lock) is missing"
        r"|_unlock (?:without|of different|cannot be out)|[Ll]ocking two"
        r"|function calls are not allowed while holding a lock"
        r"|is still inside|(?:unmatched|nested) (?:rcu|attempt)|AA deadlock|preempt_enable\w* (?:is )?missing"
        r"|spin_[{]lock,unlock[}] in rbtree cb|in unnecessary rbtree callback",
        "a lock is still held here, or is not held where it must be",
        "Between bpf_spin_lock and bpf_spin_unlock no call, no exit and no second lock is allowed, on any path.",
        "Release before you leave: bpf_spin_unlock(&value->lock); return 0; and call nothing in between.",
    ),
    Rule(
        "reference_leak",
        r"Unreleased reference id=\d+ alloc_insn=(?P<instruction>\d+)"
        r"|Owned resource \(id=\d+\) was acquired at instruction (?P<instruction__since_7_3>\d+)",
        "what {acquirer} gives here is not released on every path",
        "On the path that the log ends with, the program leaves while it still owns it.",
        "Release it on every path: {give_back}.",
        when=(facts.acquired_by(r"(?P<acquirer>\w+)"),),
    ),
    Rule(
        "reference_leak",
        r"Unreleased reference id=\d+ alloc_insn=(?P<instruction>\d+)"
        r"|Owned resource \(id=\d+\) was acquired at instruction (?P<instruction__since_7_3>\d+)",
        "what is acquired here is not released on every path",
        "On the path that the log ends with, the program leaves while it still owns it.",
        "Release it on every path: bpf_ringbuf_submit(event, 0) or bpf_ringbuf_discard(event, 0), bpf_sk_release(sk), "
        "and so on.",
    ),
    Rule(
        "reference_leak",
        r"would lead to reference leak|Resource Lifetime Safety: Unreleased resource|reference leak|Leaking reference",
        "the program leaves, or makes a tail call, while it owns something",
        "A record, a socket or another object was acquired and not released on this path.",
        "Release it on every path: bpf_ringbuf_submit(event, 0) or bpf_ringbuf_discard(event, 0), bpf_sk_release(sk), "
        "and so on.",
    ),
    Rule(
        "reference_not_held",
        r"reference has not been acquired before|must be referenced when passed to release"
        r"|unacquired reference|cannot release unowned|CONST_PTR_TO_DYNPTR cannot be released",
        "something is released that this path does not own",
        "It was released before, or never acquired on this path.",
        "Release once, and only what was acquired: if (sk) bpf_sk_release(sk);",
    ),
)
