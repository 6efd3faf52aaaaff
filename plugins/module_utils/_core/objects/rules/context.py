# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The verifier's words on the context and its fields, and on pointers that were moved."""

from __future__ import annotations

from . import facts
from .form import Rule

RULES = (
    Rule(
        "argument_mismatch",
        r"func '(?P<function>[^']+)' doesn't have (?P<number>\d+)-th argument",
        "{function} has no argument number {number} on this kernel",
        "What the program declares has more arguments than the function or tracepoint; of some the list changed from "
        "one kernel to the other. A function's result comes after all of them, and at fexit alone.",
        "Declare the arguments of the prototype and no more; where kernels differ, write a program for each prototype "
        "and load the one that fits (programs).",
    ),
    Rule(
        "context_access",
        r"invalid sock_common access",
        "a field is read that only a full socket has",
        "What skb->sk and lookups give may be a request or a time-wait socket, with the common fields alone.",
        "Ask for the full one: sk = bpf_sk_fullsock(sk); if (!sk) return 1;",
    ),
    Rule(
        "context_access",
        r"invalid bpf_context access off=(?P<offset>-?\d+) size=(?P<size>\d+)|invalid (?:sock\w*|xdp_sock"
        r"|tcp_sock) access",
        "this field cannot be used at the hook of section {section}",
        "At offset {offset}, {bytes}: which fields are there, and which may be written, differs from one attach type "
        "to "
        "the other, also within one program type.",
        "Use another hook (attach type) that has the field: of struct bpf_sock src_ip4 and src_port at "
        "cgroup/post_bind4, "
        "src_ip6 at cgroup/post_bind6; of bpf_sock_addr user_ip4 at the hooks whose names end in 4, user_ip6 in 6, "
        "msg_src_ip4 at cgroup/sendmsg4; or leave the field out, and use each in its declared width.",
        when=(facts.section("(?:cgroup|sockops|sk_).*"),),
    ),
    Rule(
        "context_access",
        r"invalid bpf_context access off=(?P<offset>-?\d+)(?: size=(?P<size>\d+))?",
        "this field of the context cannot be used by a program of this type",
        "At offset {offset}, {bytes}: the field is not there for this program type or hook, is read-only, needs its "
        "whole "
        "width, or is not in this kernel.",
        "Use the fields that the program type has (ctx->rx_queue_index for XDP), in their declared width, or another "
        "section (program type or hook).",
    ),
    Rule(
        "context_access",
        r"dereference of modified ctx ptr|variable ctx access|variable offset ctx|invalid variable offset[^\n]* ctx",
        "the context is read at an offset that varies, as text of a tracepoint is found by __data_loc",
        "The text lies behind the event's fields; the verifier takes direct reads of the context at constant offsets "
        "only.",
        "Copy it: bpf_probe_read_kernel_str(text, sizeof(text), (void *)ctx + (ctx->__data_loc_filename & 0xffff)); "
        "with the field that the event has, then look at the copy; one value alone by bpf_probe_read_kernel(&first, "
        "sizeof(first), …).",
        when=(facts.section("(?:tp|tracepoint)/.*"),),
    ),
    Rule(
        "context_access",
        r"dereference of modified ctx ptr|variable ctx access|variable offset ctx"
        r"|func '[^']*' (?:arg\d+ (?:has btf_id|type|'?\S+'? has type)|offset \d+ is not|size \d+ must be)"
        r"|func '[^']*' arg\d+[^\n]* Only pointer access|invalid ctx access|negative offset ctx ptr"
        r"|invalid (?:access to (?:flow keys|context)|sock\w* access|xdp_sock access)|R\d+ invalid (?:sock|tcp_sock"
        r"|xdp_sock)\w* access"
        r"|invalid btf_id for context argument|variable offset to flow keys",
        "the context is not used as the verifier demands",
        "Its fields are read at constant offsets from the pointer that the program got, and only those that exist.",
        "Read ctx->field directly, without arithmetic on ctx; of a traced function only the arguments that it has.",
    ),
    Rule(
        "modified_pointer",
        r"dereference of modified \w+ ptr|variable \w+ access var_off"
        r"|negative offset \w+ ptr"
        r"|must have zero offset|pointer offset -?\d+ is not allowed",
        "a pointer is used that was moved away from where it pointed when the program got it",
        "Such a pointer counts only as it was given: unmoved, or with a constant offset that is not negative.",
        "Keep the pointer as you got it for the call, bpf_sk_release(sk) and not &sk->field, and reach fields by name.",
    ),
)
