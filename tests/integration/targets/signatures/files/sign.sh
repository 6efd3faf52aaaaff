#!/usr/bin/env bash
# sign.sh FOLDER: two signers, and in FOLDER what they signed, as a user would: by ssh-keygen and sha256sum.
set -euo pipefail
cd "$1"

key_of() { cut -d ' ' -f 1,2 "$1.pub"; }
sign() { ssh-keygen -Y sign -q -n "${3:-ebpf.deploy}" -f "$1" "$2"; }

for name in alice mallory; do
    ssh-keygen -q -t ed25519 -N '' -C '' -f "$name"
done
printf 'alice@example.com namespaces="ebpf.deploy" %s\n' "$(key_of alice)" >signers
printf 'mallory@example.com %s\n' "$(key_of mallory)" >signers-mallory

make_copy() {
    mkdir "$1"
    cp counter.bpf.c "$1/"
}

make_copy plain && sign alice plain/counter.bpf.c
make_copy altered && cp plain/counter.bpf.c.sig altered/ && echo '// and more' >>altered/counter.bpf.c
make_copy mallorys && sign mallory mallorys/counter.bpf.c
make_copy for_git && sign alice for_git/counter.bpf.c git
make_copy damaged && head -c 100 plain/counter.bpf.c.sig >damaged/counter.bpf.c.sig
mkdir unsigned && echo 'this is no C' >unsigned/counter.bpf.c

# A source with a header: signed alone, by a list, and the same with the header changed or left out afterwards.
mkdir alone
sed 's|^struct {|#include "step.h"\n&|; s|packets, 1)|packets, STEP)|' counter.bpf.c >alone/counter.bpf.c
echo '#define STEP 2' >alone/step.h
cp -r alone listed
sign alice alone/counter.bpf.c
(cd listed && sha256sum counter.bpf.c step.h >counter.bpf.c.sha256)
cp -r listed with_flags
sign alice listed/counter.bpf.c.sha256
cp -r listed changed_header && echo '#define STEP 3' >changed_header/step.h
cp -r listed without_header && rm without_header/step.h
cp -r listed no_list && rm no_list/counter.bpf.c.sha256
echo "# cflags: -DITEST='a b' -DMORE" >>with_flags/counter.bpf.c.sha256
sign alice with_flags/counter.bpf.c.sha256
