// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

SEC("cgroup/sock_create")
int allow(struct bpf_sock *sock)
{
	return 5;
}

char _license[] SEC("license") = "GPL";
