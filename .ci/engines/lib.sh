# Shared by the scripts in this folder, which put real engines on a runtime; sourced, never run.
# shellcheck shell=bash
# A script says what it needs (`needs`), goes into namespaces of its own (`apart`), so that nothing of the host changes, and makes
# its checks (`check`). A line for each, PASS or FAIL; what was run and said goes to $ENGINE_LOG.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
: "${ENGINE_BED:=/var/tmp/keelbox-engines}" "${ENGINE_LOG:=/dev/null}" "${ENGINE_PATIENCE:=90}"
export ENGINE_BED ENGINE_LOG SHELL=/bin/bash
# Opened once, by the first of the users that a script runs as.
[ -e /proc/self/fd/9 ] || exec 9>>"$ENGINE_LOG"
passed=0 failed=0 failures=()

fail() { echo "$(basename "$0"): $*" >&2; exit 2; }
# The runtime's path, absolute: engines do not look for it from where we are.
runtime_of() { [ $# -ge 1 ] && [ -x "$1" ] || fail "needs the path of a runtime"; realpath -s "$1"; }

needs() { # PROGRAM:PACKAGE...
  local want missing=()
  for want in "$@"; do command -v "${want%%:*}" >/dev/null || missing+=("${want#*:}"); done
  [ ${#missing[@]} = 0 ] && return
  [ "$(id -u)" = 0 ] || fail "missing: ${missing[*]}"
  # Nothing that comes with a service may start it.
  local policy=/usr/sbin/policy-rc.d
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' > $policy; chmod +x $policy; trap 'rm -f /usr/sbin/policy-rc.d' EXIT; }
  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null ||
    fail "cannot install ${missing[*]}"
  rm -f $policy; trap - EXIT
}

# The script once more, in a mount and a network namespace of its own. The empty v2 hierarchy of a hybrid host is taken away there:
# engines that see it take the host for one with v2 alone.
apart() { # ARGUMENT...
  [ -z "${ENGINE_APART:-}" ] || return 0
  [ "$(id -u)" = 0 ] || fail "only root can make the namespaces it runs in"
  # shellcheck disable=SC2016
  ENGINE_APART=1 exec unshare --mount --net -- bash -c '
    ip link set lo up
    [ -e /sys/fs/cgroup/cgroup.controllers ] || ! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified
    exec "$@"' apart "$0" "$@"
}

# An image of the busybox user land, as a tar of its root and as an OCI archive.
image() {
  local root=$ENGINE_BED/root
  [ -e "$ENGINE_BED/image.oci.tar" ] && return
  rm -rf "$ENGINE_BED"; mkdir -p "$root"/{bin,etc,proc,sys,dev,root,var,home,usr} && mkdir -m 1777 "$root/tmp"
  cp "$(command -v busybox)" "$root/bin/busybox"
  "$root/bin/busybox" --list | while read -r name; do [ "$name" = busybox ] || ln -s busybox "$root/bin/$name"; done
  ln -s bin "$root/sbin"; ln -s ../bin "$root/usr/bin"
  printf '%s\n' 'root:x:0:0::/root:/bin/sh' 'nobody:x:65534:65534::/:/bin/false' > "$root/etc/passwd"
  printf '%s\n' 'root:x:0:' 'nogroup:x:65534:' > "$root/etc/group"
  echo 'image of the busybox user land' > "$root/etc/issue"
  tar -C "$root" -cf "$ENGINE_BED/image.tar" .
  oci_archive
  chmod -R a+rX "$ENGINE_BED"
}

# One layer, by hand: the format is three small documents that name each other by their digests.
oci_archive() {
  local layout=$ENGINE_BED/layout
  mkdir -p "$layout/blobs/sha256"
  put() { local sum; sum=$(sha256sum < "$1" | cut -d' ' -f1); mv "$1" "$layout/blobs/sha256/$sum"; echo "$sum"; }
  described() { echo "{\"mediaType\":\"application/vnd.oci.image.$1\",\"digest\":\"sha256:$2\",\"size\":$(stat -c %s "$layout/blobs/sha256/$2")}"; }
  local layer config manifest machine
  machine=$(uname -m); machine=${machine/x86_64/amd64}; machine=${machine/aarch64/arm64}
  cp "$ENGINE_BED/image.tar" "$layout/new"; layer=$(put "$layout/new")
  echo "{\"architecture\":\"$machine\",\"os\":\"linux\",\"config\":{\"Cmd\":[\"sleep\",\"1000000\"],\"Env\":[\"PATH=/bin\"]},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:$layer\"]}}" > "$layout/new"
  config=$(put "$layout/new")
  echo "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":$(described config.v1+json "$config"),\"layers\":[$(described layer.v1.tar "$layer")]}" > "$layout/new"
  manifest=$(put "$layout/new")
  local entry; entry=$(described manifest.v1+json "$manifest")
  echo "{\"schemaVersion\":2,\"manifests\":[${entry%\}},\"annotations\":{\"org.opencontainers.image.ref.name\":\"latest\",\"io.containerd.image.name\":\"localhost/box:latest\"}}]}" > "$layout/index.json"
  echo '{"imageLayoutVersion":"1.0.0"}' > "$layout/oci-layout"
  tar -C "$layout" -cf "$ENGINE_BED/image.oci.tar" oci-layout index.json blobs
}

# What is to be said is an extended regular expression; an empty one means that the command is to succeed.
check() { # NAME PATTERN COMMAND-LINE
  local name=$1 pattern=$2 line=$3 said status good
  said=$(timeout "$ENGINE_PATIENCE" bash -c "$line" 2>&1 </dev/null 9>&-); status=$?
  if [ -n "$pattern" ]; then grep -qE -- "$pattern" <<<"$said"; good=$?; else good=$status; fi
  printf '### %s\n%s\n--- status %s, good %s\n%s\n' "$name" "$line" "$status" "$good" "$said" >&9
  if [ "$good" = 0 ]; then
    passed=$((passed + 1)); echo "PASS $name"
  else
    failed=$((failed + 1)); failures+=("$name")
    echo "FAIL $name: status $status: $(grep -v '^$' <<<"$said" | tail -n 2 | tr '\n' ' ' | cut -c 1-300)"
  fi
}

# Fails if something failed that is not named here: what fails with every runtime, for reasons that are none of a runtime.
total() { # WHAT [NAME-THAT-MAY-FAIL...]
  local what=$1 name may bad=0; shift
  echo "== $what: $passed passed, $failed failed ${failures[*]:+(${failures[*]})}"
  for name in "${failures[@]}"; do
    may=no; for allowed in "$@"; do [ "$allowed" != "$name" ] || may=yes; done
    [ $may = yes ] || bad=1
  done
  return $bad
}
