#!/usr/bin/env bash
# Installs the real servers that the tests start for themselves, and wrk to load them, on Debian and its kin; says what
# to install elsewhere.
# Nothing happens, and no network is needed, when all are there.
set -euo pipefail

# mariadbd stands in /usr/sbin, which an ordinary user's PATH leaves out.
PATH="$PATH:/usr/sbin"
declare -A package_of=([mariadbd]=mariadb-server [redis-server]=redis-server [kubectl]=kubernetes-client [wrk]=wrk)

missing=()
for program in "${!package_of[@]}"; do
  command -v "$program" >/dev/null || missing+=("${package_of[$program]}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  as_root=(sudo -n)
fi
if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
  echo "The tests need what these Debian packages hold; please install it: ${missing[*]}" >&2
  exit 1
fi

# A policy-rc.d that answers 101 keeps the packages from starting services of their own on this machine.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap '"${as_root[@]}" rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod +x "$policy"
fi

"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
