# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
# debian_system.sh ROOT WORK HOME CHECKOUT USER SCRIPT: run SCRIPT in the system of debian_system.py, as USER. Runs as the
# first process of new namespaces, where it is root and reaps the processes of others.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

lower=$1 work=$2 homes=$3 checkout=$4 user=$5 script=$6
top=$work/top

# The tree is not changed: an overlay has the changes, and homes are outside of it, because machines have disks there.
mount_tree() {
  mkdir -p "$work"/{changes,scratch} "$top"
  mount -t overlay -o "lowerdir=$lower,upperdir=$work/changes,workdir=$work/scratch,userxattr" system "$top"
  mount --bind "$homes" "$top/home"
  mount --bind "$checkout" "$top/srv"
  mount -t proc proc "$top/proc"
  mount --rbind /sys "$top/sys"
  mount -t tmpfs -o mode=0755 run "$top/run"
  mount -t tmpfs -o mode=0755 dev "$top/dev"
}

fill_dev() {
  local name
  for name in null zero full random urandom tty net/tun; do
    [[ -c /dev/$name ]] || continue
    mkdir -p "$(dirname "$top/dev/$name")"
    touch "$top/dev/$name"
    mount --bind "/dev/$name" "$top/dev/$name"
  done
  mkdir "$top/dev/pts" "$top/dev/shm"
  mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$top/dev/pts"
  mount -t tmpfs -o mode=1777 shm "$top/dev/shm"
  ln -s pts/ptmx "$top/dev/ptmx"
  ln -s /proc/self/fd "$top/dev/fd"
  for name in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${name%:*}" "$top/dev/${name#*:}"; done
}

# The name server, the certificates and pip's settings with which this machine reaches mirrors.
copy_settings() {
  local path
  for path in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
    [[ -r $path ]] || continue
    mkdir -p "$top$(dirname "$path")"
    cat "$path" >"$top$path"
  done
}

# A root without the tree of the old one: the kernel denies namespaces of users to a process in a chroot.
enter_tree() {
  cd "$top"
  pivot_root . mnt
  umount --lazy /mnt
}

create_home() {
  local home=/home/$user
  [[ -d $home ]] || install -d -m 0755 -o "$user" -g "$user" "$home"
  install -d -m 0700 -o "$user" -g "$user" "/run/user/$(id -u "$user")"
  git config --system --replace-all safe.directory '*'
  /srv/hack/sync.sh "$home/checkout" setpriv --reuid="$user" --regid="$user" --init-groups
}

mount_tree
fill_dev
copy_settings
enter_tree
if [[ $user == root ]]; then
  cd /
  bash -euc "$script"
else
  create_home
  cd "/home/$user/checkout"
  setpriv --reuid="$user" --regid="$user" --init-groups env HOME="/home/$user" USER="$user" LOGNAME="$user" \
    PATH=/usr/local/bin:/usr/bin:/bin XDG_RUNTIME_DIR="/run/user/$(id -u "$user")" bash -euc "$script"
fi
exit
