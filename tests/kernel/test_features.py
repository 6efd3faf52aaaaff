# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel is asked before a load, and what it is asked when a load was refused; bpftool is the witness."""

from __future__ import annotations

import json
import os
import stat

import private_host
import pytest
from private_host import NAME

from ansible_collections.ebpf.deploy.plugins.module_utils._core.deployment import stage
from ansible_collections.ebpf.deploy.plugins.module_utils._core.errors import (
    BadObject,
    BadRequest,
    Unsupported,
    VerifierRefused,
)
from ansible_collections.ebpf.deploy.plugins.module_utils._core.kernel import bpf, features, targets
from ansible_collections.ebpf.deploy.plugins.module_utils._core.objects import elf, preflight, refusals, source

HEAD = """#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
char _license[] SEC("license") = "GPL";
"""
FAULTY = """
SEC("xdp") int itest_faulty(struct xdp_md *ctx)
{
    char *data = (void *)(long)ctx->data;
    return data[%d];
}
"""
UNSIZED = """
struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, __u32); __type(value, __u64); } itest_unsized SEC(".maps");
SEC("xdp") int itest_lookup(struct xdp_md *ctx)
{
    __u32 key = 0;
    return bpf_map_lookup_elem(&itest_unsized, &key) ? XDP_PASS : XDP_DROP;
}
"""
HUGE = """
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 0x80000000); __type(key, __u32); __type(value, __u64);
} itest_huge SEC(".maps");
SEC("xdp") int itest_lookup(struct xdp_md *ctx)
{
    __u32 key = 0;
    return bpf_map_lookup_elem(&itest_huge, &key) ? XDP_PASS : XDP_DROP;
}
"""


def probe(section):
    return f'SEC("{section}") int itest_probe(void *ctx) {{ return 0; }}\n'


def given(text):
    return stage.Given(source=source.Source("itest.bpf.c", (HEAD + text).encode()), file="itest.bpf.c")


def warned(text):
    return preflight.warnings(stage.build(NAME, given(text)).object)


def refused(text, check_mode=False):
    """The fields of the refusal that staging ends in."""
    with pytest.raises(VerifierRefused) as refusal:
        stage.stage(NAME, given(text), check_mode=check_mode)
    return refusal.value.as_fields()


@pytest.fixture(scope="module")
def witness():
    """What bpftool found of this kernel."""
    return json.loads(private_host.run("bpftool", "-j", "feature", "probe", "kernel"))


@pytest.fixture
def tracefs(host):
    """The host's tracepoints are there to be looked up, as on every host with systemd."""
    if not os.path.isdir("/sys/kernel/tracing/events"):
        private_host.run("mount", "-t", "tracefs", "tracefs", "/sys/kernel/tracing")


# ---- probes --------------------------------------------------------------------------------------


def test_program_and_map_types_as_bpftool_finds_them(host, witness):
    for number in range(1, 32):
        name = bpf.prog_type_name(number)
        assert features.has_program_type(number) is witness["program_types"][f"have_{name}_prog_type"], name
    for number in range(1, 32):
        name = bpf.map_type_name(number)
        assert features.has_map_type(number) is witness["map_types"][f"have_{name}_map_type"], name


def test_type_that_libbpf_does_not_know_is_neither_there_nor_missing(host):
    assert features.has_program_type(99) is None
    assert features.has_map_type(99) is None


def test_helper_is_known_by_the_types_that_may_call_it(host):
    skb_load_bytes, ktime_get_ns = 26, 5

    assert "sched_cls" in features.program_types_with(skb_load_bytes)
    assert "xdp" not in features.program_types_with(skb_load_bytes)
    assert {"xdp", "sched_cls", "cgroup_skb"} <= set(features.program_types_with(ktime_get_ns))
    assert features.program_types_with(9999) is None


# ---- before the load -----------------------------------------------------------------------------


def test_program_that_will_find_its_target_is_not_warned_about(tracefs):
    assert warned(probe("tp/sched/sched_switch")) == []
    assert warned(probe("raw_tp/sched_switch")) == []
    assert warned(probe("uprobe//bin/sh:main")) == []


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("tp/sched/sched_swich", "this kernel has no event sched/sched_swich"),
        ("raw_tp/sched_swich", "this kernel has no tracepoint sched_swich"),
        ("uprobe//no/such/file:main", "there is no file /no/such/file"),
    ],
)
def test_probe_that_will_find_nothing_is_warned_about_and_loads(tracefs, section, words):
    result = stage.stage(NAME, given(probe(section)))

    assert result.warnings == (f"Attaching itest_probe would fail: {words}",)
    assert result.state == "staged"


def test_kprobe_on_a_missing_function_is_warned_about(host):
    """It loads everywhere; whether it could be attached depends on the kernel's having kprobes at all."""
    (warning,) = warned(probe("kprobe/vfs_raed"))

    if targets.has_probes("kprobe"):
        assert warning.startswith("Attaching itest_probe would fail: this kernel has no function vfs_raed; near it are")
        assert "vfs_read" in warning
        assert warned(probe("kprobe/vfs_read")) == []
    else:
        assert warning == "This kernel places no kprobes (CONFIG_KPROBES), so attaching would fail: itest_probe"


def test_object_that_hits_a_known_fault_never_reaches_the_kernel(host, monkeypatch):
    data = stage.build(NAME, given(HUGE)).object
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", "6.18.44", "#1", "x86_64")))

    with pytest.raises(Unsupported) as refusal:
        preflight.warnings(data)

    assert refusal.value.detail["diagnosis"] == "known_bad_kernel"
    assert refusal.value.detail["known_from"]


# ---- after a refusal -----------------------------------------------------------------------------


def test_map_that_nobody_sized_is_named_with_what_to_write(host):
    """By staging, which asks for a size first, and where nothing comes before the kernel, as at a boot."""
    with pytest.raises(VerifierRefused) as refusal:
        elf.load(source.compile_source(given(UNSIZED).source, True).object, NAME)

    assert refusal.value.detail["diagnosis"] == "map_unsized"
    with pytest.raises(BadRequest) as earlier:
        stage.stage(NAME, given(UNSIZED))
    assert earlier.value.detail["diagnosis"] == "map_unsized"
    assert "maps: { itest_unsized: { max_entries:" in refusal.value.do


def test_helper_of_another_type_names_the_types_that_have_it(host):
    call = "(void *)ctx, 0, &byte, 1"
    fields = refused(f'SEC("xdp") int p(struct xdp_md *ctx) {{ char byte; return bpf_skb_load_bytes({call}); }}')

    assert fields["diagnosis"] == "helper_not_allowed"
    assert "On this kernel it can be called from programs of type socket_filter, sched_cls" in fields["do"]


def test_missing_attach_target_names_the_nearest(host):
    """Where nothing comes before the kernel, as at a boot; test_requires.py has what staging says."""
    data = stage.build(NAME, given('SEC("fentry/vfs_raed") int p(void *ctx) { return 0; }')).object
    with pytest.raises(VerifierRefused) as refusal:
        elf.load(data, NAME)

    assert refusal.value.detail["diagnosis"] == "attach_target_missing"
    assert "vfs_read" in refusal.value.do


def test_object_of_the_old_kind_is_told_from_one_that_is_damaged(host):
    old = 'struct { int type, key, value, entries, flags; } hits SEC("maps") = {2, 4, 4, 1};\n' + probe("socket")

    with pytest.raises(BadObject) as refusal:
        stage.stage(NAME, given(old))

    assert refusal.value.detail["diagnosis"] == "legacy_map"


def test_fault_of_ours_is_not_told_as_a_death_in_the_kernel(host):
    def stumble(dummy):
        raise KeyError("itest-fault")

    with pytest.raises(RuntimeError, match="KeyError: 'itest-fault'"):
        elf.ask(stage.build(NAME, given(probe("xdp"))).object, NAME, stumble)


def test_whole_log_of_a_refusal_is_kept_for_root_alone(host):
    fields = refused(FAULTY % 1)

    with open(fields["log_file"], encoding="utf-8") as stream:
        log = stream.read()
    assert "invalid access to packet, off=1 size=1" in log
    assert log.splitlines()[-3:] == fields["log"][-3:]
    assert stat.S_IMODE(os.stat(fields["log_file"]).st_mode) == 0o600
    assert refused(FAULTY % 1)["log_file"] == fields["log_file"]


def test_logs_of_refusals_do_not_fill_the_disk(host):
    kept = [refused(FAULTY % (100 + number))["log_file"] for number in range(refusals.LOGS_KEPT + 2)]

    assert sorted(os.listdir(os.path.dirname(kept[0]))) == sorted(map(os.path.basename, kept[2:]))


def test_check_mode_keeps_no_log(host):
    folder = os.path.join(source.CACHE, "logs")
    before = os.listdir(folder) if os.path.isdir(folder) else None

    fields = refused(FAULTY % 50, check_mode=True)

    assert (fields["diagnosis"], fields["log_file"]) == ("packet_out_of_bounds", "")
    assert (os.listdir(folder) if os.path.isdir(folder) else None) == before
