// SPDX-License-Identifier: GPL-3.0-or-later
/* put each established local connection into a sockhash, for sk_msg to splice */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define AF_INET 2

struct conn_key {
	u32 sip;
	u32 dip;
	u32 sport;
	u32 dport;
};

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 4096);
	__type(key, struct conn_key);
	__type(value, u64);
} conns SEC(".maps");

SEC("sockops")
int track(struct bpf_sock_ops *skops)
{
	struct conn_key key = {};
	struct bpf_sock *sk = skops->sk;

	if (skops->family != AF_INET || !sk)
		return 0;

	key.sip = skops->local_ip4;
	key.dip = skops->remote_ip4;
	key.sport = bpf_htonl(skops->local_port);
	key.dport = skops->remote_port;

	switch (skops->op) {
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		bpf_map_update_elem(&conns, &key, sk, BPF_NOEXIST);
		break;
	}
	return 0;
}

SEC("sk_msg")
int splice(struct sk_msg_md *msg)
{
	struct conn_key key = {
		.sip = msg->remote_ip4, .dip = msg->local_ip4,
		.sport = msg->remote_port, .dport = bpf_htonl(msg->local_port),
	};

	return bpf_msg_redirect_hash(msg, &conns, &key, BPF_F_INGRESS);
}

char LICENSE[] SEC("license") = "GPL";
