#!/usr/bin/env bash
# package.sh FOLDER: installs FOLDER/taskq.deb in the fresh Debian in FOLDER/root, without booting it, looks at what came,
# and removes it again. Started by `run` in a room of its own.
set -euo pipefail
folder=$1
root=$folder/root
. deploy/debian/test/say.sh

# chroot COMMAND ...: runs it in there, with /proc and /dev of its own, without a network and without systemd.
within() {
    SYSTEMD_LOG_LEVEL=err systemd-nspawn --quiet --register=no --keep-unit --directory="$root" --private-network \
        --resolv-conf=off --timezone=off --link-journal=no --pipe "$@" </dev/null
}

# Every file with its kind, mode and owner, and its content: but for what dpkg and apt write about themselves.
listing() {
    local own=(-path ./run -o -path ./tmp -o -path ./dev -o -path ./var/lib/dpkg -o -path ./var/lib/apt -o -path ./var/log
        -o -path ./var/cache)
    (
        cd "$root"
        find . -xdev \( "${own[@]}" \) -prune -o -printf '%P %y %m %U:%G %l\n'
        find . -xdev \( "${own[@]}" \) -prune -o -type f -print0 | xargs -0 sha256sum | sed 's/^\([^ ]*\)  \.\/\(.*\)/\2 \1/'
    ) | sort
}

# The first start in there leaves traces of its own.
within true
listing >"$folder/before"

cp "$folder/taskq.deb" "$root/var/cache/"
is "apt installs it, and finds what it depends on" within apt-get -qy install /var/cache/taskq.deb

version=$(dpkg-deb -f "$folder/taskq.deb" Version)
for program in taskq taskq-server taskq-worker; do
    says "$program runs" "$program ${version%-*}" within "$program" --version
done
for page in man1/taskq.1 man1/taskq-submit.1 man1/taskq-worker.1 man8/taskq-server.8 man8/taskq-worker.8; do
    is "there is a manual page $page" test -s "$root/usr/share/man/$page.gz"
done
says "a job runs from end to end" hello within env HOME=/tmp taskq --local run -- sh -c 'echo hello'
is "completions of bash can be read" within bash -n /usr/share/bash-completion/completions/taskq
says "and complete" submit within bash -c '. /usr/share/bash-completion/completions/taskq
    COMP_WORDS=(taskq subm) COMP_CWORD=1; _taskq taskq subm taskq; echo "${COMPREPLY[@]}"'
is "completions of zsh are there" grep -q '^#compdef taskq' "$root/usr/share/zsh/vendor-completions/_taskq"
is "completions of fish are there" grep -q '^complete -c taskq' "$root/usr/share/fish/vendor_completions.d/taskq.fish"
is "the copyright is told" grep -q Apache-2.0 "$root/usr/share/doc/taskq/copyright"
for user in taskq taskq-worker; do is "there is a user $user" within getent passwd "$user"; done

units=(taskq-server.service taskq-worker@.service)
is "systemd finds no fault with the units" within systemd-analyze verify --man=no "${units[@]}"
for unit in "${units[@]}"; do
    is "$unit is exposed by less than 3 (of 10)" within systemd-analyze security --offline=true --threshold=29 "$unit"
    says "$unit is left to the host's owner" disabled within sh -c "systemctl is-enabled $unit || true"
done
# What its owner does: it must be gone as well.
within systemctl --quiet enable taskq-server taskq-worker@1 taskq-worker@2
echo 'token' >"$root/etc/taskq/access.toml"
echo '#changed' >>"$root/etc/taskq/worker.env"

is "apt removes it" within apt-get -qy remove taskq
is "programs and units are gone" not ls "$root"/usr/bin/taskq* "$root"/usr/lib/systemd/system/taskq*
is "settings are kept" grep -q '#changed' "$root/etc/taskq/worker.env"
is "apt purges it" within apt-get -qy purge taskq
listing >"$folder/after"
# Users stay, as in Debian: their numbers must not come to own anything else. So do passwd's own copies of itself.
kept='^etc/(passwd|group|shadow|gshadow)-? |^etc/\.pwd\.lock '
is "a purge leaves the files that were there before, and the two users" \
    diff <(grep -vE "$kept" "$folder/before") <(grep -vE "$kept" "$folder/after")
