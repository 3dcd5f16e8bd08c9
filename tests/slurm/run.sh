#!/usr/bin/env bash
# The tests on a real Slurm: install it, then run pytest in namespaces of its own, so that nothing outlives this
# script, also not after kill -9 or Ctrl-C, and nothing outside is touched. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() { echo "tests/slurm: skipped: $*"; exit 0; }
[ "$(id -u)" = 0 ] || skip "installing and starting Slurm needs root"
command -v apt-get > /dev/null || skip "Slurm is installed from Debian's packages, and apt-get is not there"
unshare --mount --uts --pid --fork true 2> /dev/null || skip "this container may not make namespaces (CAP_SYS_ADMIN)"

packages="slurmctld slurmd slurm-client slurmdbd mariadb-server munge"
missing() { for name in slurmctld slurmd srun slurmdbd mariadbd munged; do command -v $name > /dev/null || return 0; done; return 1; }
if missing; then
  [ -e /etc/slurm/slurm.conf ] && skip "this machine has a Slurm of its own"
  policy=/usr/sbin/policy-rc.d # as the packages are installed, no daemon may start by itself
  if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    ours=$policy
    printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod 755 "$policy"
  fi
  echo "Installing $packages"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $packages; } \
    > /dev/null || skip "apt-get could not install $packages"
  rm -f "${ours:-}" # exec, below, runs no trap
fi
mkdir -p /etc/slurm
[ -e slurm ] || make slurm
export CASTALIA_SLURM=1 # without it these tests are skipped: they need the namespaces

command='python -m pytest -m "" "$@"'
if [ "${1:-}" = overhead ]; then # what `make bench BENCH="--only slurm"` calls, with a file for its numbers
  command='python -m tests.slurm.overhead "$@"'
  shift
fi

# The shell in between is the namespace's first process, which collects the children of those that were killed.
exec unshare --mount --uts --pid --fork --kill-child --mount-proc --propagation private \
  bash -c "$command"'; exit $?' tests "${@:-tests/slurm}"
