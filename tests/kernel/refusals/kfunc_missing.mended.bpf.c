// SPDX-License-Identifier: GPL-3.0-or-later
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

extern int bpf_no_such_kfunc(void) __attribute__((section(".ksyms"), weak));

SEC("tc")
int call(struct __sk_buff *skb)
{
	if (!bpf_no_such_kfunc)
		return 0;
	return bpf_no_such_kfunc();
}

char _license[] SEC("license") = "GPL";
