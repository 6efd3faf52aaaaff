// SPDX-License-Identifier: GPL-3.0-or-later
// remember every established local connection, for a sk_msg redirect
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define AF_INET 2

struct conn_key {
	__u32 sip4, dip4;
	__u32 sport, dport;
};

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 65536);
	__type(key, struct conn_key);
	__type(value, __u64);
} conns SEC(".maps");

SEC("sockops")
int track(struct bpf_sock_ops *skops)
{
	struct conn_key key = {};
	struct bpf_sock *sk;

	switch (skops->op) {
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		break;
	default:
		return 0;
	}
	if (skops->family != AF_INET)
		return 0;

	key.sip4 = skops->local_ip4;
	key.dip4 = skops->remote_ip4;
	key.sport = bpf_htonl(skops->local_port);
	key.dport = skops->remote_port;

	sk = skops->sk;
	if (sk)
		bpf_sock_hash_update(skops, &conns, &key, BPF_NOEXIST);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
