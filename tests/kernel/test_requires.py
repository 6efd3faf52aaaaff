# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an object needs is read from it, and what this host lacks of it is told at once, before anything is loaded.

The kernel is the witness: what is told to be missing it refuses, and what it takes is never told to be missing.
test_refusals.py asks the same of its hundred sources.
"""

from __future__ import annotations

import ctypes
import os

import private_host
import pytest
from private_host import NAME

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import stage, store
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import Unsupported, VerifierRefused
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, btf, features, since
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import elf, preflight, requires, source

HEAD = """#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
char _license[] SEC("license") = "GPL";
static __u64 (*bpf_from_the_future)(void) = (void *)9999;
const volatile int is_new;
extern int bpf_no_such_kfunc(void) __attribute__((section(".ksyms")));
extern int bpf_weak_kfunc(void) __attribute__((section(".ksyms"), weak));
"""
CALL = "bpf_from_the_future()"


def xdp(body, before=""):
    return f'{before}\nSEC("xdp") int itest_new(struct xdp_md *ctx) {{ {body} }}\n'


MANY = (
    xdp(f"return {CALL};")
    + """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); }
    itest_hash SEC(".maps");
SEC("tc") int itest_call(struct __sk_buff *skb) { return bpf_no_such_kfunc(); }
SEC("tp_btf/no_such_event") int itest_event(void *ctx) { return 0; }
SEC("fentry/vfs_raed") int itest_entry(void *ctx) { return 0; }
SEC("lsm/file_opne") int itest_lsm(void *ctx) { return 0; }
SEC("iter/no_such_thing") int itest_iter(void *ctx) { return 0; }
"""
)


def given(text, **more):
    return stage.Given(source=source.Source("itest.bpf.c", (HEAD + text).encode()), file="itest.bpf.c", **more)


def missing(text, **more):
    """{kind and name: row} of what the host is told to lack."""
    with pytest.raises(Unsupported) as refusal:
        stage.stage(NAME, given(text, **more))
    return {f"{row['kind']} {row['name']}": row for row in refusal.value.detail["missing"]}, refusal.value


# ---- what an object needs ------------------------------------------------------------------------


def test_needs_are_read_from_the_object_and_say_who_has_them(host):
    text = """
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } itest_ring SEC(".maps");
SEC("?tp_btf/sched_switch") int itest_unchosen(void *ctx) { return bpf_get_smp_processor_id(); }
SEC("lsm.s/file_open") int itest_lsm(void *ctx) { return 0; }
""" + xdp(
        "return part(is_new ? bpf_weak_kfunc() : 0);",
        "static __attribute__((noinline)) int part(int x) { return x + bpf_loop(x, 0, 0, 0); }",
    )

    built = stage.build(NAME, given(text))

    assert built.release.requires == {
        "capability CAP_BPF": ["itest_lsm", "itest_new"],
        "capability CAP_NET_ADMIN": ["itest_new"],
        "capability CAP_PERFMON": ["itest_lsm"],
        "helper bpf_loop": ["itest_new"],
        "lsm_hook file_open": ["itest_lsm"],
        "map_type ringbuf": ["itest_ring"],
        "program_type lsm": ["itest_lsm"],
        "program_type xdp": ["itest_new"],
    }


def test_needs_follow_what_the_user_sets(host):
    text = 'SEC("fentry/vfs_read") int itest_entry(void *ctx) { return 0; }\n' + xdp("return 0;")

    other = stage.build(NAME, given(text, programs=({"name": "itest_entry", "target": "vfs_write"},)))
    none = stage.build(NAME, given(text, programs=("itest_new",)))

    assert "function vfs_write" in other.release.requires
    assert "function vfs_read" not in other.release.requires
    assert list(none.release.requires) == ["capability CAP_BPF", "capability CAP_NET_ADMIN", "program_type xdp"]


def test_struct_that_the_kernel_must_know_is_a_need(host):
    text = """
struct itest_ops_of_tomorrow { int (*begin)(void); };
struct tcp_congestion_ops___short { int (*begin)(void); };
SEC("struct_ops/begin") int itest_begin(void *ctx) { return 0; }
SEC("struct_ops/other") int itest_other(void *ctx) { return 0; }
SEC(".struct_ops") struct itest_ops_of_tomorrow itest_ops = { .begin = (void *)itest_begin };
SEC(".struct_ops") struct tcp_congestion_ops___short itest_tcp = { .begin = (void *)itest_other };
"""
    needs = stage.build(NAME, given(text)).release.requires
    rows, refusal = missing(text)

    assert "struct_ops tcp_congestion_ops" in needs

    assert list(rows) == ["struct_ops itest_ops_of_tomorrow"]
    assert "struct ops itest_ops_of_tomorrow" in refusal.what


def test_needs_are_kept_with_the_release_and_not_read_again(host, monkeypatch):
    first = stage.stage(NAME, given(xdp("return 0;")))
    monkeypatch.setattr(requires, "names", lambda *dummy: pytest.fail("read again"))

    again = stage.stage(NAME, given(xdp("return 0;")))

    assert again.steps == ()
    assert again.built.release.requires == first.built.release.requires != {}


# ---- what this host lacks ------------------------------------------------------------------------


@pytest.mark.parametrize("check_mode", [False, True])
def test_all_that_is_missing_is_in_one_error_and_nothing_is_loaded(host, check_mode):
    with pytest.raises(Unsupported) as refusal:
        stage.stage(NAME, given(MANY), check_mode=check_mode)

    detail = refusal.value.detail
    rows = {f"{row['kind']} {row['name']}": row for row in detail["missing"]}
    assert list(rows) == [
        "function vfs_raed",
        "helper 9999",
        "iterator no_such_thing",
        "kfunc bpf_no_such_kfunc",
        "lsm_hook file_opne",
        "tracepoint no_such_event",
    ]
    assert detail["diagnosis"] == "features_missing"
    assert {row["diagnosis"] for row in rows.values()} == {"attach_target_missing", "unknown_helper", "kfunc_missing"}
    assert rows["helper 9999"]["source"]["text"] == xdp(f"return {CALL};").strip()
    assert "vfs_read" in rows["function vfs_raed"]["near"]
    assert rows["lsm_hook file_opne"]["needed_by"] == ["itest_lsm"]
    assert all(need.partition(" ")[2] in refusal.value.what for need in rows)
    assert not os.path.exists(store.home(NAME).folder)
    assert not os.path.exists(store.home(NAME).pins)


def test_type_that_this_kernel_lacks_is_named_with_the_release_that_brought_it(host):
    if features.has_program_type(20) is not False:
        pytest.skip("this kernel has CONFIG_BPF_LIRC_MODE2")

    rows, refusal = missing('SEC("lirc_mode2") int itest_decode(void *ctx) { return 0; }')

    assert rows["program_type lirc_mode2"]["since"] == "4.18"
    assert refusal.detail["diagnosis"] == "unsupported_program_type"
    assert "came with Linux 4.18" in refusal.what


@pytest.mark.parametrize(
    ("certain", "text"),
    [
        (True, xdp(f"return ctx->ingress_ifindex ? {CALL} : {CALL};")),
        (True, xdp(f"for (int turn = 0; turn < 8; turn++) {CALL}; return 0;")),
        (
            True,
            xdp("return one(1) + one(2);", f"static __attribute__((noinline)) int one(int x) {{ return x + {CALL}; }}"),
        ),
        (False, xdp(f"return is_new ? {CALL} : 0;")),
        (False, xdp(f"if (ctx->ingress_ifindex == 7) return 0; return {CALL};")),
        (
            False,
            xdp(
                "return is_new ? one(1) : 0;",
                f"static __attribute__((noinline)) int one(int x) {{ return x + {CALL}; }}",
            ),
        ),
        (
            False,
            xdp("return one(is_new);", f"static __attribute__((noinline)) int one(int x) {{ return x ? {CALL} : 0; }}"),
        ),
    ],
)
def test_missing_helper_counts_where_no_way_leads_past_its_call(host, certain, text):
    """What lies behind a condition the verifier may never look at: for the rest its own refusal speaks."""
    built = stage.build(NAME, given(text))

    if certain:
        with pytest.raises(Unsupported):
            preflight.expect_offered(built.release.requires, built.object)
        with pytest.raises(VerifierRefused):
            elf.load(built.object, NAME)
    else:
        preflight.expect_offered(built.release.requires, built.object)


@pytest.mark.parametrize(
    "body", [f"return is_new ? {CALL} : 2;", "return is_new && bpf_weak_kfunc ? bpf_weak_kfunc() : 2;"]
)
def test_what_the_program_asks_for_first_is_not_missing(host, body):
    assert stage.stage(NAME, given(xdp(body))).state == "staged"


def test_capability_that_this_process_lacks_is_named(host):
    built = stage.build(NAME, given(xdp("return 0;")))

    def as_another():
        drop(features.CAPABILITY_BITS["CAP_NET_ADMIN"], features.CAPABILITY_BITS["CAP_SYS_ADMIN"])
        preflight.expect_offered(built.release.requires, built.object)

    ended = private_host.in_child(as_another)

    assert ended.code == "unprivileged"
    assert "capability CAP_NET_ADMIN (for itest_new)" in ended.failure


def drop(*bits):
    """This process goes on without these capabilities (capset(2))."""
    effective = features.capabilities() & ~sum(1 << bit for bit in bits)
    low, high = effective & 0xFFFFFFFF, effective >> 32
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    assert ctypes.CDLL(None).capset(header, data) == 0


# ---- the tables against this kernel --------------------------------------------------------------


@pytest.mark.skipif("not os.path.exists(bpf.KERNEL_BTF)", reason="this kernel shows no BTF")
def test_helpers_have_the_kernels_names(host):
    with open(bpf.KERNEL_BTF, "rb") as stream:
        types = btf.parse(stream.read())
    named = {number: name for name, number in types.enumerators(types.find("bpf_func_id", "enum"))}

    for number in range(1, min(max(named), 211) + 1):
        if number in named and not named[number].startswith("__"):
            assert since.helper_name(number) == named[number].replace("BPF_FUNC_", "bpf_")
            assert since.helper_number(since.helper_name(number)) == number


def test_no_type_is_missing_that_bpftool_finds(host):
    found = private_host.bpftool("feature", "probe", "kernel")

    for kind, end in (("program", "_prog_type"), ("map", "_map_type")):
        there = [key[len("have_") : -len(end)] for key, has in found[f"{kind}_types"].items() if has]
        assert len(there) > 20
        preflight.expect_offered({f"{kind}_type {name}": ["one"] for name in there})
