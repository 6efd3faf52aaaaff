// SPDX-License-Identifier: GPL-3.0-or-later
// struct_ops: a Reno that goes back halfway after a loss was spurious
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct halfway {
	__u32 prior_cwnd;
	__u32 losses;
};

extern void tcp_reno_cong_avoid(struct sock *sk, __u32 ack, __u32 acked) __ksym;

static __always_inline struct halfway *halfway_ca(struct sock *sk)
{
	return (struct halfway *)((struct inet_connection_sock *)sk)->icsk_ca_priv;
}

SEC("struct_ops/halfway_ssthresh")
__u32 BPF_PROG(halfway_ssthresh, struct sock *sk)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;
	struct halfway *ca = halfway_ca(sk);
	__u32 half;

	tp->prior_cwnd = tp->snd_cwnd;
	ca->losses++;
	half = tp->snd_cwnd >> 1;
	return half > 2 ? half : 2;
}

SEC("struct_ops/halfway_cong_avoid")
void BPF_PROG(halfway_cong_avoid, struct sock *sk, __u32 ack, __u32 acked)
{
	tcp_reno_cong_avoid(sk, ack, acked);
}

SEC("struct_ops/halfway_undo_cwnd")
__u32 BPF_PROG(halfway_undo_cwnd, struct sock *sk)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;
	struct halfway *ca = halfway_ca(sk);
	__u32 prior = ca->prior_cwnd;

	return prior > tp->snd_cwnd ? (prior + tp->snd_cwnd) >> 1 : tp->snd_cwnd;
}

SEC(".struct_ops")
struct tcp_congestion_ops halfway = {
	.ssthresh	= (void *)halfway_ssthresh,
	.cong_avoid	= (void *)halfway_cong_avoid,
	.undo_cwnd	= (void *)halfway_undo_cwnd,
	.name		= "bpf_halfway",
};

char LICENSE[] SEC("license") = "GPL";
