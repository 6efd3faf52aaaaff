# Copyright (c) 2026 the ebpf.deploy contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to the collection ebpf.deploy
"""The host's libbpf, its own libelf and a few libc calls: symbols, checks, captured log.

The only room that imports ctypes.

`call("bpf_obj_get", path)` either returns what the C function gives, as a Python value, or raises OSError(errno, text,
symbol) whose `log` attribute holds the lines that libbpf printed. What an errno means is not this room's business.

Symbols are bound by probing, never by version: what this library lacks is skipped at load, and `has` answers for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from ctypes import POINTER, c_bool, c_char, c_char_p, c_int, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p

from ..errors import ToolMissing, Unsupported

ERR_PTR = 2**64 - 4096  # before libbpf 1.0 a failed pointer carries its errno in the last page
STRICT_CLEAN_PTRS_AND_DIRECT_ERRS = 0x3  # LIBBPF_STRICT_CLEAN_PTRS | _DIRECT_ERRS: speak as 1.0 does

# ---- structures ----------------------------------------------------------------------------------


class _Opts(ctypes.Structure):
    """Option structures start with their own size. A longer one with a zero tail is accepted by an older library."""

    def __init__(self, **fields):
        super().__init__(sz=ctypes.sizeof(type(self)), **fields)


class ObjectOpenOpts(_Opts):  # struct bpf_object_open_opts
    _fields_ = (
        ("sz", c_size_t),
        ("object_name", c_char_p),
        ("relaxed_maps", c_bool),
        ("relaxed_core_relocs", c_bool),
        ("pin_root_path", c_char_p),
        ("attach_prog_fd", c_uint32),
        ("kconfig", c_char_p),
        ("btf_custom_path", c_char_p),
        ("kernel_log_buf", c_void_p),  # 0.7
        ("kernel_log_size", c_size_t),
        ("kernel_log_level", c_uint32),
    )


class LinkCreateOpts(_Opts):  # struct bpf_link_create_opts, without the union that only tracing needs
    _fields_ = (
        ("sz", c_size_t),
        ("flags", c_uint32),
        ("iter_info", c_void_p),
        ("iter_info_len", c_uint32),
        ("target_btf_id", c_uint32),
    )


class LinkUpdateOpts(_Opts):  # struct bpf_link_update_opts
    _fields_ = (("sz", c_size_t), ("flags", c_uint32), ("old_prog_fd", c_uint32))


class XdpQueryOpts(_Opts):  # struct bpf_xdp_query_opts, 0.7
    _fields_ = (
        ("sz", c_size_t),
        ("prog_id", c_uint32),
        ("drv_prog_id", c_uint32),
        ("hw_prog_id", c_uint32),
        ("skb_prog_id", c_uint32),
        ("attach_mode", c_uint8),
    )


class ProgQueryAttr(ctypes.Structure):  # union bpf_attr, BPF_PROG_QUERY; before 1.3 libbpf has no room for link ids
    _fields_ = (
        ("target", c_uint32),  # target_fd or target_ifindex
        ("attach_type", c_uint32),
        ("query_flags", c_uint32),
        ("attach_flags", c_uint32),
        ("prog_ids", c_uint64),
        ("count", c_uint32),
        ("reserved", c_uint32),
        ("prog_attach_flags", c_uint64),
        ("link_ids", c_uint64),
        ("link_attach_flags", c_uint64),
        ("revision", c_uint64),
    )


class ProgLoadAttr(ctypes.Structure):  # union bpf_attr, BPF_PROG_LOAD, as far as a bare program needs it
    _fields_ = (
        ("prog_type", c_uint32),
        ("insn_cnt", c_uint32),
        ("insns", c_uint64),
        ("license", c_uint64),
        ("log_level", c_uint32),
        ("log_size", c_uint32),
        ("log_buf", c_uint64),
        ("kern_version", c_uint32),
        ("prog_flags", c_uint32),
        ("prog_name", c_char * 16),
        ("prog_ifindex", c_uint32),
        ("expected_attach_type", c_uint32),
    )


class ProgInfo(ctypes.Structure):  # struct bpf_prog_info, to 5.16; an older kernel fills less
    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("tag", c_uint8 * 8),
        ("jited_prog_len", c_uint32),
        ("xlated_prog_len", c_uint32),
        ("jited_prog_insns", c_uint64),
        ("xlated_prog_insns", c_uint64),
        ("load_time", c_uint64),
        ("created_by_uid", c_uint32),
        ("nr_map_ids", c_uint32),
        ("map_ids", c_uint64),
        ("name", c_char * 16),
        ("ifindex", c_uint32),
        ("gpl_compatible", c_uint32),
        ("netns_dev", c_uint64),
        ("netns_ino", c_uint64),
        ("nr_jited_ksyms", c_uint32),
        ("nr_jited_func_lens", c_uint32),
        ("jited_ksyms", c_uint64),
        ("jited_func_lens", c_uint64),
        ("btf_id", c_uint32),
        ("func_info_rec_size", c_uint32),
        ("func_info", c_uint64),
        ("nr_func_info", c_uint32),
        ("nr_line_info", c_uint32),
        ("line_info", c_uint64),
        ("jited_line_info", c_uint64),
        ("nr_jited_line_info", c_uint32),
        ("line_info_rec_size", c_uint32),
        ("jited_line_info_rec_size", c_uint32),
        ("nr_prog_tags", c_uint32),
        ("prog_tags", c_uint64),
        ("run_time_ns", c_uint64),
        ("run_cnt", c_uint64),
        ("recursion_misses", c_uint64),
        ("verified_insns", c_uint32),
        ("attach_btf_obj_id", c_uint32),
        ("attach_btf_id", c_uint32),
    )


class MapInfo(ctypes.Structure):  # struct bpf_map_info, to 5.16
    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("name", c_char * 16),
        ("ifindex", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32),
        ("netns_dev", c_uint64),
        ("netns_ino", c_uint64),
        ("btf_id", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
        ("btf_vmlinux_id", c_uint32),
        ("map_extra", c_uint64),
    )


class _LinkRawTracepoint(ctypes.Structure):
    _fields_ = (("name", c_uint64), ("name_len", c_uint32))


class _LinkTracing(ctypes.Structure):  # the target since 5.13
    _fields_ = (("attach_type", c_uint32), ("target_obj_id", c_uint32), ("target_btf_id", c_uint32))


class _LinkXdp(ctypes.Structure):
    _fields_ = (("ifindex", c_uint32),)


class _LinkTcx(ctypes.Structure):
    _fields_ = (("ifindex", c_uint32), ("attach_type", c_uint32))


class _LinkCgroup(ctypes.Structure):
    _fields_ = (("cgroup_id", c_uint64), ("attach_type", c_uint32))


class _LinkNetns(ctypes.Structure):
    _fields_ = (("netns_ino", c_uint32), ("attach_type", c_uint32))


class _LinkNetfilter(ctypes.Structure):
    _fields_ = (("pf", c_uint32), ("hooknum", c_uint32), ("priority", c_int), ("flags", c_uint32))


class _LinkPerfEvent(ctypes.Structure):  # of a uprobe, 6.6; a tracepoint and a kprobe begin likewise
    _fields_ = (
        ("type", c_uint32),
        ("name", c_uint64),
        ("name_len", c_uint32),
        ("offset", c_uint32),
        ("cookie", c_uint64),  # 6.9
    )


class _LinkUnion(ctypes.Union):
    _fields_ = (
        ("raw_tracepoint", _LinkRawTracepoint),
        ("tracing", _LinkTracing),
        ("xdp", _LinkXdp),
        ("tcx", _LinkTcx),
        ("cgroup", _LinkCgroup),
        ("netns", _LinkNetns),
        ("netfilter", _LinkNetfilter),
        ("perf_event", _LinkPerfEvent),
        ("room", c_uint8 * 112),
    )


class LinkInfo(ctypes.Structure):  # struct bpf_link_info
    _fields_ = (("type", c_uint32), ("id", c_uint32), ("prog_id", c_uint32), ("of", _LinkUnion))


class NetfilterLinkAttr(ctypes.Structure):  # union bpf_attr, BPF_LINK_CREATE; libbpf has it since 1.3
    _fields_ = (
        ("prog_fd", c_uint32),
        ("target_fd", c_uint32),
        ("attach_type", c_uint32),
        ("flags", c_uint32),
        ("pf", c_uint32),
        ("hooknum", c_uint32),
        ("priority", c_int),
        ("netfilter_flags", c_uint32),
    )


class OrderedLinkAttr(ctypes.Structure):  # union bpf_attr, BPF_LINK_CREATE at tcx and netkit; libbpf has it since 1.3
    _fields_ = (
        ("prog_fd", c_uint32),
        ("target_ifindex", c_uint32),
        ("attach_type", c_uint32),
        ("flags", c_uint32),
        ("relative_id", c_uint32),
        ("expected_revision", c_uint64),
    )


class PerfLinkAttr(ctypes.Structure):  # union bpf_attr, BPF_LINK_CREATE; libbpf knows the cookie since 0.5
    _fields_ = (
        ("prog_fd", c_uint32),
        ("target_fd", c_uint32),
        ("attach_type", c_uint32),
        ("flags", c_uint32),
        ("cookie", c_uint64),
    )


class PerfEventAttr(ctypes.Structure):  # struct perf_event_attr, PERF_ATTR_SIZE_VER1
    _fields_ = (
        ("type", c_uint32),
        ("size", c_uint32),
        ("config", c_uint64),
        ("sample_period", c_uint64),
        ("sample_type", c_uint64),
        ("read_format", c_uint64),
        ("flags", c_uint64),
        ("wakeup_events", c_uint32),
        ("bp_type", c_uint32),
        ("config1", c_uint64),  # kprobe_func, uprobe_path
        ("config2", c_uint64),  # probe_offset
    )


class TcHook(_Opts):  # struct bpf_tc_hook, 0.6
    _fields_ = (("sz", c_size_t), ("ifindex", c_int), ("attach_point", c_int), ("parent", c_uint32))


class TcOpts(_Opts):  # struct bpf_tc_opts, 0.6
    _fields_ = (
        ("sz", c_size_t),
        ("prog_fd", c_int),
        ("flags", c_uint32),
        ("prog_id", c_uint32),
        ("handle", c_uint32),
        ("priority", c_uint32),
    )


class TestRunOpts(_Opts):  # struct bpf_test_run_opts
    _fields_ = (
        ("sz", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
    )


class BtfInfo(ctypes.Structure):  # struct bpf_btf_info
    _fields_ = (
        ("btf", c_uint64),
        ("btf_size", c_uint32),
        ("id", c_uint32),
        ("name", c_uint64),
        ("name_len", c_uint32),
        ("kernel_btf", c_uint32),
    )


# ---- symbols -------------------------------------------------------------------------------------

# symbol -> kind of result, arguments; the C prototype stands above
# kinds: fd, zero, count (all: < 0 is -errno or -1 with errno), pointer (NULL fails), maybe (NULL is an answer),
#        text, number, truth, nothing
SYMBOLS = {
    # const char *libbpf_version_string(void)
    "libbpf_version_string": ("text", ()),
    # int libbpf_set_strict_mode(enum libbpf_strict_mode)
    "libbpf_set_strict_mode": ("zero", (c_int,)),
    # int libbpf_num_possible_cpus(void)
    "libbpf_num_possible_cpus": ("count", ()),
    # int libbpf_probe_bpf_prog_type(enum bpf_prog_type, const void *opts), 0.7: 1, 0, or -EOPNOTSUPP where it knows no
    # such type; map types likewise
    "libbpf_probe_bpf_prog_type": ("count", (c_int, c_void_p)),
    "libbpf_probe_bpf_map_type": ("count", (c_int, c_void_p)),
    # const char *libbpf_bpf_prog_type_str(enum bpf_prog_type), 1.0; NULL for one it does not know
    "libbpf_bpf_prog_type_str": ("text", (c_int,)),
    "libbpf_bpf_map_type_str": ("text", (c_int,)),
    "libbpf_bpf_link_type_str": ("text", (c_int,)),
    "libbpf_bpf_attach_type_str": ("text", (c_int,)),
    # int libbpf_prog_type_by_name(const char *, enum bpf_prog_type *, enum bpf_attach_type *)
    "libbpf_prog_type_by_name": ("zero", (c_char_p, POINTER(c_int), POINTER(c_int))),
    # struct bpf_object *bpf_object__open_mem(const void *buf, size_t, const struct bpf_object_open_opts *)
    "bpf_object__open_mem": ("pointer", (c_char_p, c_size_t, POINTER(ObjectOpenOpts))),
    # int bpf_object__load(struct bpf_object *), void bpf_object__close(struct bpf_object *)
    "bpf_object__load": ("zero", (c_void_p,)),
    "bpf_object__close": ("nothing", (c_void_p,)),
    # struct btf *bpf_object__btf(const struct bpf_object *)
    "bpf_object__btf": ("maybe", (c_void_p,)),
    # struct bpf_program *bpf_object__next_program(const struct bpf_object *, struct bpf_program *), 0.6; maps likewise
    "bpf_object__next_program": ("maybe", (c_void_p, c_void_p)),
    "bpf_object__next_map": ("maybe", (c_void_p, c_void_p)),
    # struct bpf_program *bpf_program__next(struct bpf_program *, const struct bpf_object *): the other order, gone in
    # 1.0
    "bpf_program__next": ("maybe", (c_void_p, c_void_p)),
    "bpf_map__next": ("maybe", (c_void_p, c_void_p)),
    # const char *bpf_program__name(const struct bpf_program *)
    "bpf_program__name": ("text", (c_void_p,)),
    "bpf_program__section_name": ("text", (c_void_p,)),
    # int bpf_program__fd(const struct bpf_program *)
    "bpf_program__fd": ("fd", (c_void_p,)),
    # const struct bpf_insn *bpf_program__insns(const struct bpf_program *), size_t bpf_program__insn_cnt(…), 0.6
    "bpf_program__insns": ("maybe", (c_void_p,)),
    "bpf_program__insn_cnt": ("number", (c_void_p,)),
    # enum bpf_prog_type bpf_program__type(const struct bpf_program *)
    "bpf_program__type": ("number", (c_void_p,)),
    # int bpf_program__set_type(struct bpf_program *, enum bpf_prog_type); void before 1.0: hence "nothing"
    "bpf_program__set_type": ("nothing", (c_void_p, c_int)),
    "bpf_program__expected_attach_type": ("number", (c_void_p,)),
    # int bpf_program__set_expected_attach_type(struct bpf_program *, enum bpf_attach_type); void before 1.0
    "bpf_program__set_expected_attach_type": ("nothing", (c_void_p, c_int)),
    # int bpf_program__set_attach_target(struct bpf_program *, int attach_prog_fd, const char *attach_func_name)
    "bpf_program__set_attach_target": ("zero", (c_void_p, c_int, c_char_p)),
    # bool bpf_program__autoload(const struct bpf_program *)
    "bpf_program__autoload": ("truth", (c_void_p,)),
    # int bpf_program__set_autoload(struct bpf_program *, bool)
    "bpf_program__set_autoload": ("zero", (c_void_p, c_bool)),
    # int bpf_program__set_log_buf(struct bpf_program *, char *, size_t), 0.7; the buffer must outlive the load
    "bpf_program__set_log_buf": ("zero", (c_void_p, c_void_p, c_size_t)),
    # int bpf_program__set_log_level(struct bpf_program *, __u32), 0.7
    "bpf_program__set_log_level": ("zero", (c_void_p, c_uint32)),
    # const char *bpf_map__name(const struct bpf_map *)
    "bpf_map__name": ("text", (c_void_p,)),
    "bpf_map__fd": ("fd", (c_void_p,)),
    "bpf_map__type": ("number", (c_void_p,)),
    # __u32 bpf_map__key_size(const struct bpf_map *)
    "bpf_map__key_size": ("number", (c_void_p,)),
    "bpf_map__value_size": ("number", (c_void_p,)),
    "bpf_map__max_entries": ("number", (c_void_p,)),
    "bpf_map__map_flags": ("number", (c_void_p,)),
    "bpf_map__btf_key_type_id": ("number", (c_void_p,)),
    "bpf_map__btf_value_type_id": ("number", (c_void_p,)),
    # bool bpf_map__is_internal(const struct bpf_map *)
    "bpf_map__is_internal": ("truth", (c_void_p,)),
    # struct bpf_map *bpf_map__inner_map(struct bpf_map *): the inner map's definition, 0.4
    "bpf_map__inner_map": ("maybe", (c_void_p,)),
    # int bpf_map__set_max_entries(struct bpf_map *, __u32), 0.2
    "bpf_map__set_max_entries": ("zero", (c_void_p, c_uint32)),
    # const void *bpf_map__initial_value(struct bpf_map *, size_t *psize), 0.5: an internal map's bytes until load
    "bpf_map__initial_value": ("maybe", (c_void_p, POINTER(c_size_t))),
    # int bpf_map__set_initial_value(struct bpf_map *, const void *data, size_t)
    "bpf_map__set_initial_value": ("zero", (c_void_p, c_char_p, c_size_t)),
    # int bpf_map__set_pin_path(struct bpf_map *, const char *); NULL takes it away
    "bpf_map__set_pin_path": ("zero", (c_void_p, c_char_p)),
    # int bpf_map__reuse_fd(struct bpf_map *, int fd): duplicates fd
    "bpf_map__reuse_fd": ("zero", (c_void_p, c_int)),
    # const void *btf__get_raw_data(const struct btf *, __u32 *size); btf__raw_data since 0.6
    "btf__raw_data": ("pointer", (c_void_p, POINTER(c_uint32))),
    "btf__get_raw_data": ("pointer", (c_void_p, POINTER(c_uint32))),
    # struct btf *btf__parse(const char *path, struct btf_ext **btf_ext), raw or out of an ELF file
    "btf__parse": ("pointer", (c_char_p, c_void_p)),
    # struct btf *btf__load_vmlinux_btf(void), 0.5; libbpf_find_kernel_btf before
    "btf__load_vmlinux_btf": ("pointer", ()),
    "libbpf_find_kernel_btf": ("pointer", ()),
    # __u32 btf__type_cnt(const struct btf *), 0.6, counts void; btf__get_nr_types before does not
    "btf__type_cnt": ("number", (c_void_p,)),
    "btf__free": ("nothing", (c_void_p,)),
    # __s32 btf__find_by_name_kind(const struct btf *, const char *, __u32 kind): -ENOENT where there is none
    "btf__find_by_name_kind": ("count", (c_void_p, c_char_p, c_uint32)),
    # struct btf_dump *btf_dump__new(const struct btf *, btf_dump_printf_fn_t, void *ctx, const struct btf_dump_opts
    # *), 0.6
    "btf_dump__new": ("pointer", (c_void_p, c_void_p, c_void_p, c_void_p)),
    # int btf_dump__dump_type(struct btf_dump *, __u32 id)
    "btf_dump__dump_type": ("zero", (c_void_p, c_uint32)),
    "btf_dump__free": ("nothing", (c_void_p,)),
    # int bpf_obj_pin(int fd, const char *), int bpf_obj_get(const char *)
    "bpf_obj_pin": ("zero", (c_int, c_char_p)),
    "bpf_obj_get": ("fd", (c_char_p,)),
    # int bpf_obj_get_info_by_fd(int fd, void *info, __u32 *len)
    "bpf_obj_get_info_by_fd": ("zero", (c_int, c_void_p, POINTER(c_uint32))),
    # int bpf_prog_get_fd_by_id(__u32), int bpf_prog_get_next_id(__u32, __u32 *)
    "bpf_prog_get_fd_by_id": ("fd", (c_uint32,)),
    "bpf_map_get_fd_by_id": ("fd", (c_uint32,)),
    "bpf_link_get_fd_by_id": ("fd", (c_uint32,)),
    "bpf_btf_get_fd_by_id": ("fd", (c_uint32,)),
    "bpf_prog_get_next_id": ("zero", (c_uint32, POINTER(c_uint32))),
    "bpf_map_get_next_id": ("zero", (c_uint32, POINTER(c_uint32))),
    "bpf_link_get_next_id": ("zero", (c_uint32, POINTER(c_uint32))),
    # int bpf_prog_load(enum bpf_prog_type, const char *name, const char *license, const struct bpf_insn *, size_t,
    # struct bpf_prog_load_opts *), 0.7
    "bpf_prog_load": ("fd", (c_int, c_char_p, c_char_p, c_void_p, c_size_t, c_void_p)),
    # int bpf_prog_test_run_opts(int prog_fd, struct bpf_test_run_opts *)
    "bpf_prog_test_run_opts": ("zero", (c_int, POINTER(TestRunOpts))),
    # int bpf_link_create(int prog_fd, int target_fd, enum bpf_attach_type, const struct bpf_link_create_opts *)
    "bpf_link_create": ("fd", (c_int, c_int, c_int, POINTER(LinkCreateOpts))),
    # int bpf_raw_tracepoint_open(const char *name, int prog_fd)
    "bpf_raw_tracepoint_open": ("fd", (c_char_p, c_int)),
    # int bpf_link_update(int link_fd, int new_prog_fd, const struct bpf_link_update_opts *)
    "bpf_link_update": ("zero", (c_int, c_int, POINTER(LinkUpdateOpts))),
    # int bpf_link_detach(int link_fd)
    "bpf_link_detach": ("zero", (c_int,)),
    # int bpf_xdp_query(int ifindex, int flags, struct bpf_xdp_query_opts *), 0.7
    "bpf_xdp_query": ("zero", (c_int, c_int, POINTER(XdpQueryOpts))),
    # int bpf_tc_hook_create(struct bpf_tc_hook *), 0.6
    "bpf_tc_hook_create": ("zero", (POINTER(TcHook),)),
    # int bpf_tc_attach(const struct bpf_tc_hook *, struct bpf_tc_opts *), 0.6; detach and query likewise
    "bpf_tc_attach": ("zero", (POINTER(TcHook), POINTER(TcOpts))),
    "bpf_tc_detach": ("zero", (POINTER(TcHook), POINTER(TcOpts))),
    "bpf_tc_query": ("zero", (POINTER(TcHook), POINTER(TcOpts))),
    # int bpf_map_lookup_elem(int fd, const void *key, void *value)
    "bpf_map_lookup_elem": ("zero", (c_int, c_void_p, c_void_p)),
    # int bpf_map_update_elem(int fd, const void *key, const void *value, __u64 flags)
    "bpf_map_update_elem": ("zero", (c_int, c_void_p, c_void_p, c_uint64)),
    # int bpf_map_lookup_elem_flags(int fd, const void *key, void *value, __u64 flags)
    "bpf_map_lookup_elem_flags": ("zero", (c_int, c_void_p, c_void_p, c_uint64)),
    "bpf_map_delete_elem": ("zero", (c_int, c_void_p)),
    # int bpf_map_get_next_key(int fd, const void *key, void *next_key)
    "bpf_map_get_next_key": ("zero", (c_int, c_void_p, c_void_p)),
}

# The same table for libc, where Python 3.9 has no name for the call.
LIBC_SYMBOLS = {
    # int setns(int fd, int nstype)
    "setns": ("zero", (c_int, c_int)),
    # int unshare(int flags)
    "unshare": ("zero", (c_int,)),
    # int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data)
    "mount": ("zero", (c_char_p, c_char_p, c_char_p, ctypes.c_ulong, c_char_p)),
    # int prctl(int option, unsigned long…)
    "prctl": ("zero", (c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)),
    # long syscall(long number, …), for bpf(2) where an old libbpf has no field for what the kernel offers, and for what
    # libc has no name for
    "syscall": ("count", (ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_long, ctypes.c_long)),
    # FILE *fopen(const char *, const char *), int fputs(const char *, FILE *), int ferror(FILE *), int fclose(FILE *)
    "fopen": ("pointer", (c_char_p, c_char_p)),
    "fputs": ("count", (c_char_p, c_void_p)),
    "ferror": ("number", (c_void_p,)),
    "fclose": ("zero", (c_void_p,)),
}

# And for libelf, which libbpf itself needs. It reads an object's sections where libbpf has no question for them.
LIBELF_SYMBOLS = {
    # unsigned int elf_version(unsigned int): must be called first
    "elf_version": ("number", (c_uint32,)),
    # Elf *elf_memory(char *image, size_t): reads in place, so the image must outlive it; int elf_end(Elf *)
    "elf_memory": ("pointer", (c_char_p, c_size_t)),
    "elf_end": ("nothing", (c_void_p,)),
    # Elf_Scn *elf_nextscn(Elf *, Elf_Scn *)
    "elf_nextscn": ("maybe", (c_void_p, c_void_p)),
    # Elf64_Shdr *elf64_getshdr(Elf_Scn *): NULL for a file of 32 bits
    "elf64_getshdr": ("pointer", (c_void_p,)),
    # Elf_Data *elf_getdata(Elf_Scn *, Elf_Data *): in the host's byte order; NULL for a section without bytes
    "elf_getdata": ("maybe", (c_void_p, c_void_p)),
    # int elf_getshdrstrndx(Elf *, size_t *), char *elf_strptr(Elf *, size_t section, size_t offset)
    "elf_getshdrstrndx": ("zero", (c_void_p, POINTER(c_size_t))),
    "elf_strptr": ("text", (c_void_p, c_size_t, c_size_t)),
}

PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241, "ppc64le": 319, "s390x": 331, "riscv64": 241}  # __NR_perf_event_open
BPF_SYSCALL = {"x86_64": 321, "aarch64": 280, "ppc64le": 361, "s390x": 351, "riscv64": 280}  # __NR_bpf

_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_void_p, c_void_p)  # (level, format, va_list)


class _Library:
    """libbpf, libelf and libc, opened once for the process. `calls` maps a symbol to a checked function."""

    def __init__(self):
        self.log = []
        self.libbpf = _open_libbpf()
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.calls = {}
        self._bind(self.libbpf, SYMBOLS)
        self._bind(self.libc, LIBC_SYMBOLS)
        with contextlib.suppress(OSError):  # built into a libbpf that was linked so: then `has` says no
            self._bind(ctypes.CDLL("libelf.so.1", use_errno=True), LIBELF_SYMBOLS)
        self._capture_prints()
        if "libbpf_set_strict_mode" in self.calls:  # a no-op from 1.0 on
            self.calls["libbpf_set_strict_mode"](STRICT_CLEAN_PTRS_AND_DIRECT_ERRS)

    def _bind(self, library, symbols):
        for symbol, (kind, arguments) in symbols.items():
            try:
                function = getattr(library, symbol)
            except AttributeError:
                continue
            function.argtypes = arguments
            function.restype = _RESULT[kind]
            self.calls[symbol] = _checked(symbol, function, kind, self)

    def _capture_prints(self):
        """libbpf writes to our list, not to fd 2. The closure must live as long as the library may call it."""
        vsnprintf = self.libc.vsnprintf
        vsnprintf.argtypes = (c_void_p, c_size_t, c_void_p, c_void_p)
        vsnprintf.restype = c_int

        def keep(level, text_format, arguments):
            if level <= 1:  # LIBBPF_WARN, LIBBPF_INFO; the rest is debug
                room = ctypes.create_string_buffer(65536)
                vsnprintf(room, len(room), text_format, arguments)
                self.log.extend(room.value.decode(errors="replace").splitlines())
            return 0

        self._print = _PRINT(keep)
        self.libbpf.libbpf_set_print.argtypes = (_PRINT,)
        self.libbpf.libbpf_set_print.restype = c_void_p
        self.libbpf.libbpf_set_print(self._print)


_RESULT = {
    "fd": c_int,
    "zero": c_int,
    "count": c_int,
    "pointer": c_void_p,
    "maybe": c_void_p,
    "text": c_char_p,
    "number": c_uint32,  # every counting function bound here returns 32 bits or a small size_t
    "truth": c_bool,  # only its lowest byte is the function's
    "nothing": None,
}


def _open_libbpf():
    for name in ("libbpf.so.1", "libbpf.so.0"):
        try:
            return ctypes.CDLL(name, use_errno=True)
        except OSError:
            continue
    raise ToolMissing(
        "libbpf is not installed on this host",
        "Install the package that holds libbpf.so.1 (Debian and Ubuntu: libbpf1, Fedora and RHEL: libbpf)",
        library="libbpf.so.1",
    )


def _checked(symbol, function, kind, library):
    def failed(code):
        error = OSError(code, os.strerror(code), symbol)
        error.log = library.log[:]
        return error

    def call(*arguments):
        library.log.clear()
        ctypes.set_errno(0)
        result = function(*arguments)
        code = ctypes.get_errno()
        if kind in ("fd", "zero", "count") and result < 0:
            raise failed(code or -result)
        if kind in ("pointer", "maybe") and (result or 0) > ERR_PTR:
            raise failed(2**64 - result)
        if kind == "pointer" and not result:
            raise failed(code or errno.EINVAL)
        return result.decode(errors="replace") if kind == "text" and result is not None else result

    return call


_library = []


def _the_library():
    if not _library:
        _library.append(_Library())
    return _library[0]


# ---- for the rooms above -------------------------------------------------------------------------

u32 = c_uint32
i32 = c_int
size = c_size_t
byref = ctypes.byref


def has(symbol):
    """Whether this host's library offers `symbol`."""
    return symbol in _the_library().calls


def call(symbol, *arguments):
    """Call `symbol`, checked. Raises OSError with `log`, or Unsupported where this library lacks the symbol."""
    function = _the_library().calls.get(symbol)
    if function is None:
        raise Unsupported(
            f"This host's libbpf ({version()}) has no {symbol}",
            "Update libbpf on the host",
            libbpf=version(),
            symbol=symbol,
        )
    return function(*arguments)


def version():
    """libbpf's own version, as `1.1`; before 0.6 it cannot tell."""
    calls = _the_library().calls
    return calls["libbpf_version_string"]().lstrip("v") if "libbpf_version_string" in calls else "before 0.6"


def buffer(size_or_bytes):
    """Memory that stays as long as the object lives; `.raw` reads it."""
    if isinstance(size_or_bytes, int):
        return ctypes.create_string_buffer(max(size_or_bytes, 1))
    return ctypes.create_string_buffer(size_or_bytes, max(len(size_or_bytes), 1))


def numbers(count):
    """An array of `count` u32, zeroed."""
    return (c_uint32 * max(count, 1))()


def address(memory):
    """The address of a buffer, for structures that hold it as u64. The caller keeps the buffer alive."""
    return ctypes.addressof(memory)


def read(pointer, size):
    """`size` bytes from `pointer`, copied: for memory that libbpf owns."""
    return ctypes.string_at(pointer, size)


def struct_info(fd, structure):
    """A bpf_*_info structure filled by the kernel for `fd`."""
    length = c_uint32(ctypes.sizeof(structure))
    call("bpf_obj_get_info_by_fd", fd, byref(structure), byref(length))
    return structure


def bpf_syscall(command, attributes):
    """bpf(2) itself, for what this library has no field for."""
    number = _number_of("bpf(2)", BPF_SYSCALL)
    return call("syscall", number, command, ctypes.addressof(attributes), ctypes.sizeof(attributes), 0, 0)


def perf_event_open(attributes, cpu):
    """An event of all processes on this CPU, closed on exec (PERF_FLAG_FD_CLOEXEC)."""
    attributes.size = ctypes.sizeof(attributes)
    number = _number_of("perf_event_open(2)", PERF_EVENT_OPEN)
    return call("syscall", number, ctypes.addressof(attributes), -1, cpu, -1, 1 << 3)


def _number_of(name, numbers):
    machine = os.uname().machine
    if machine not in numbers:
        raise Unsupported(f"The number of {name} on {machine} is not known here", "Update libbpf on the host")
    return numbers[machine]


def vfprintf():
    """The address of libc's vfprintf: it has the shape of libbpf's dump callback, so no closure is called per line."""
    return ctypes.cast(_the_library().libc.vfprintf, c_void_p)
