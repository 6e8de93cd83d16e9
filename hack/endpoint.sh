#!/usr/bin/env bash
# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# endpoint.sh [ARGUMENT...]: serve the endpoint of examples/endpoint.yml in the background, run a container there, and
# print how Docker clients connect. ARGUMENTS go to `docker run`. `endpoint.sh --end` ends the service.
# STOCKYARD_BECOME is the command that makes root the user who owns the endpoint; as-user.sh sets it.
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

work=$root/build/endpoint
socket=$HOME/.cache/stockyard/endpoint.sock
owner=demo name=demo
# The image host has no way to a registry, so the image is made here.
image=busybox
programs=(sh cat echo hostname ls ps sleep true uname)

# Without Docker on this machine, its client is unpacked, not installed.
prepare() {
  local packages=() package
  mkdir -p "$work/debs" "$(dirname "$socket")"
  docker=$(command -v docker || true)
  [[ -n $docker || -x $work/root/usr/bin/docker ]] || packages+=("$(client_package)")
  [[ -x $(busybox) ]] || packages+=(busybox-static)
  if ((${#packages[@]})); then
    say "fetching ${packages[*]}"
    (cd "$work/debs" && apt-get download --quiet "${packages[@]}") ||
      die "apt cannot fetch ${packages[*]}: run apt-get update as root"
    for package in "$work/debs"/*.deb; do dpkg-deb --extract "$package" "$work/root"; done
  fi
  docker=${docker:-$work/root/usr/bin/docker}
}

# The client is a package of its own since Debian 13.
client_package() {
  if apt-cache show docker-cli >/dev/null 2>&1; then echo docker-cli; else echo docker.io; fi
}

busybox() {
  local path=$work/root/usr/bin/busybox
  [[ -x $path ]] || path=$work/root/bin/busybox
  echo "$path"
}

# The process of the service, if it runs.
server() {
  local pid
  [[ -f $work/pid ]] && pid=$(<"$work/pid") && [[ -r /proc/$pid/cmdline ]] &&
    [[ $(tr '\0' ' ' <"/proc/$pid/cmdline") == *"endpoint serve"* ]] && echo "$pid"
}

end() {
  local pid
  pid=$(server) || return 0
  kill "$pid"
  while [[ -d /proc/$pid ]]; do sleep 0.1; done
  rm -f "$work/pid"
}

serve() {
  end
  rm -f "$socket"
  setsid nohup "$root/.venv/bin/python" -m stockyard.cli.main endpoint serve --owner "$owner" --name "$name" \
    </dev/null >"$work/log" 2>&1 &
  echo $! >"$work/pid"
  until [[ -S $socket ]]; do
    kill -0 "$(<"$work/pid")" 2>/dev/null || die "the endpoint ended: $(tail -n 1 "$work/log")"
    sleep 0.2
  done
}

import_image() {
  local program tree=$work/image
  ! "$docker" image inspect "$image" >/dev/null 2>&1 || return 0
  rm -rf "$tree"
  mkdir -p "$tree/bin"
  cp "$(busybox)" "$tree/bin/busybox"
  for program in "${programs[@]}"; do ln -s busybox "$tree/bin/$program"; done
  tar --create --directory="$tree" --owner=0 --group=0 . |
    "$docker" import --change 'CMD ["sh"]' - "$image" >/dev/null
}

if [[ ${1:-} == --end ]]; then
  end
  exit
fi

prepare
"$root/hack/playbook.sh" --demo site -e yard="$root/examples/endpoint.yml"
serve
export DOCKER_HOST=unix://$socket
import_image
(($#)) || set -- --rm "$image" uname -a
"$docker" run "$@"
say "the endpoint is served by process $(<"$work/pid") of the user $(id -un) until \`make teardown\`. Go on with:"
[[ -z ${STOCKYARD_BECOME:-} ]] || printf '  %s\n' "$STOCKYARD_BECOME"
printf '  %s\n' "export DOCKER_HOST=$DOCKER_HOST" "$docker run --rm -i $image sh"
