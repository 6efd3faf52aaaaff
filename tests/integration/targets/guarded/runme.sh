#!/usr/bin/env bash
# Guarded changes over SSH, in all the ways in which users run a task: how they log in and become root, where and how often
# the task runs, and what happens when the change cuts the host off. Three hosts are enough.
set -euo pipefail

clean() { ansible-playbook clean.yml "$@"; }

trap 'clean "$@"' EXIT
for play in ways cut lost runs; do
    ansible-playbook "$play.yml" "$@"
done
clean "$@"
for way in hangs "is unreachable"; do
    ansible-playbook lost_in_checks.yml -e "way='$way'" "$@"
done
