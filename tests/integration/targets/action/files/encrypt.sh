#!/usr/bin/env bash
# encrypt.sh FOLDER OBJECT: a source beyond 64 KiB with its signature, and the object, encrypted like what is there.
set -euo pipefail
cd "$1"

mkdir -m 0700 tmp
cp "$2" object.bpf.o
{
    cat main.bpf.c
    for _ in {1..1000}; do printf '// %0100d\n' 0; done
} >large.bpf.c
ssh-keygen -q -t ed25519 -N '' -C '' -f key
printf 'alice@example.com %s\n' "$(cut -d ' ' -f 1,2 key.pub)" >signers
sha256sum large.bpf.c common.h inner/*.h >large.bpf.c.sha256
ssh-keygen -Y sign -q -n ebpf.deploy -f key large.bpf.c.sha256
ansible-vault encrypt --vault-password-file password ./*.bpf.* common.h inner/*.h
