#!/usr/bin/env bash
# services.sh FOLDER: boots the Debian in FOLDER/root with systemd as its first process, installs FOLDER/taskq.deb there, and
# runs jobs through its units: confined, killed, hung, drained, upgraded, removed. Started by `run` in a room of its own,
# whose end is the end of everything in here.
set -euo pipefail
folder=$1
root=$folder/root
. deploy/debian/test/say.sh

cp "$folder/taskq.deb" "$root/var/cache/"
echo h7 >"$root/etc/hostname"
SYSTEMD_LOG_LEVEL=err systemd-nspawn --quiet --register=no --keep-unit --directory="$root" --private-network \
    --resolv-conf=off --timezone=off --link-journal=no --console=pipe --boot </dev/null >"$folder/console" 2>&1 &
booted=$!

# host COMMAND ...: runs it on the booted host.
host() { nsenter --target "$first" --all -- env -i PATH="$PATH" TASKQ_ACCESS=/var/lib/taskq/access.toml "$@"; }
# Its first process is the child of ours.
first() { first=$(cat "/proc/$booted/task/$booted/children") && first=${first%% *} && [ -n "$first" ]; }
is_up() { first && [ "$(host systemctl is-system-running)" = running ]; }
# What systemd knows of a unit: of SERVICE PROPERTY.
of() { host systemctl show --value --property "$2" "$1"; }
has() { [ "$(of "$1" "$2")" = "$3" ]; }
changed() { [ "$(of "$1" "$2")" != "$3" ]; }
# What is said of a job or task: field JOB NAME.
field() { host taskq show "$1" --json | tr -d ' \n' | grep -o "\"$2\":[^,}]*" | head -1 | cut -d: -f2 | tr -d '"'; }
ended() { [ "$(field "$1" state)" = "$2" ]; }
# A task that says when it has begun, and then waits for a file: with systemd's private /tmp, so in its home.
long='touch "$HOME/begun-$TASKQ_JOB"; until [ -e "$HOME/go-$TASKQ_JOB" ]; do sleep 0.1; done; echo done'
home=/var/lib/taskq-worker
begun() { until_so "job $1 runs" host test -e $home/begun-"$1"; }
go() { host touch $home/go-"$1"; }

until_so "the host is up" is_up
is "apt installs the package" host apt-get -qy install /var/cache/taskq.deb
server=taskq-server.service worker=taskq-worker@1.service

echo "-- the coordinator"
is "it starts, and says so when it serves" host systemctl --quiet enable --now taskq-server
says "its directory is its own" "700 taskq" host stat -c '%a %U' /var/lib/taskq
says "and the token in it" "600 taskq" host stat -c '%a %U' /var/lib/taskq/access.toml
is "systemd shows how it is" grep -q '0 workers' <(of $server StatusText)

echo "-- a worker"
is "without a token it does not start" not host systemctl start taskq-worker@1
until_so "and is not tried again and again" has $worker ActiveState failed
is "the journal has the reason" host sh -c 'journalctl -u taskq-worker@1 | grep -q /etc/taskq/access.toml'
host install -o taskq-worker -m 600 /var/lib/taskq/access.toml /etc/taskq/access.toml
host systemctl reset-failed taskq-worker@1
is "with it it starts" host systemctl --quiet enable --now taskq-worker@1
says "a job runs there, as a user of its own" taskq-worker host taskq run -- id -un
says "its name is that of host and instance" h7-1 host taskq run -- sh -c 'echo $TASKQ_WORKER'

echo "-- what a task cannot do"
# refused WHY COMMAND: the task is told this.
refused() { host taskq run --cwd / -- sh -c "{ $2; } 2>&1 | grep -q '$1'"; }
is "read the coordinator's store" refused 'Permission denied' 'cat /var/lib/taskq/access.toml'
is "write where programs and settings are" refused 'Read-only file system' 'touch /usr/x'
is "make namespaces" refused 'Operation not permitted' 'unshare --user true'
is "get what its user does not have, by a capability or a setuid program" host taskq run -- sh -c \
    'grep -q "^CapBnd:.*0000000000000000$" /proc/self/status && grep -q "^NoNewPrivs:.*1$" /proc/self/status'
is "(the host has devices)" host test -e /dev/net
is "see them" host taskq run -- sh -c 'test -e /dev/null && ! test -e /dev/net'
says "but where it is by itself, it may write" "$home" host taskq run --cwd $home -- sh -c 'touch here && pwd'

echo "-- killed, and hung"
id=$(host taskq submit --cwd $home -- sh -c "$long")
begun "$id"
pid=$(of $server MainPID)
host systemctl kill --kill-whom=main --signal=KILL $server
until_so "a coordinator that was killed is back" has $server ActiveState active
is "as another process" changed $server MainPID "$pid"
go "$id"
is "the task went on meanwhile" host taskq wait "$id" --timeout 60s
says "and was not run twice" 1 field "$id.0" attempt
for unit in taskq-server taskq-worker@1; do
    is "systemd waits for the beats of $unit" not has $unit.service WatchdogUSec 0
    host mkdir -p /run/systemd/system/$unit.service.d
    host sh -c "printf '[Service]\nWatchdogSec=2s\n' >/run/systemd/system/$unit.service.d/soon.conf"
done
host systemctl daemon-reload
for unit in $server $worker; do
    host systemctl restart $unit
    pid=$(of $unit MainPID)
    host systemctl kill --kill-whom=main --signal=STOP $unit
    until_so "$unit hangs: systemd notices" changed $unit MainPID "$pid"
    until_so "and starts it again" has $unit ActiveState active
done
host sh -c 'rm -r /run/systemd/system/taskq-*.service.d; systemctl daemon-reload'
host systemctl restart $server $worker

echo "-- drained"
id=$(host taskq submit --cwd $home -- sh -c "$long")
begun "$id"
host systemctl stop --no-block taskq-worker@1
until_so "a worker that is stopped waits for its task" has $worker ActiveState deactivating
next=$(host taskq submit -- true)
go "$id"
until_so "ends after it" has $worker ActiveState inactive
says "well" success of $worker Result
says "the task has ended as always" succeeded field "$id" state
says "the next one was left for others" queued field "$next" state
host systemctl start taskq-worker@1
until_so "which it finds when it is back" ended "$next" succeeded

echo "-- upgraded"
id=$(host taskq submit --cwd $home -- sh -c "$long")
begun "$id"
pid=$(of $server MainPID) pid_worker=$(of $worker MainPID)
is "dpkg installs the package once more" host dpkg -i /var/cache/taskq.deb
in_it "and says how workers follow" "systemctl restart 'taskq-worker@*'"
is "the coordinator is started again" changed $server MainPID "$pid"
until_so "and serves" has $server ActiveState active
says "the worker is not" "$pid_worker" of $worker MainPID
go "$id"
until_so "its task ends" ended "$id" succeeded
says "and was not run twice" 1 field "$id.0" attempt

echo "-- removed"
is "apt removes it while it runs" host apt-get -qy remove taskq
is "nothing of it runs" not host sh -c "grep -q '^taskq' /proc/[0-9]*/comm"
is "apt purges it" host apt-get -qy purge taskq
in_it "and says that jobs are kept" 'rm -r /var/lib/taskq'
is "they are" host test -e /var/lib/taskq/sled
is "token and settings are not" not host ls /etc/taskq
is "nor is what was enabled" not host sh -c 'ls /etc/systemd/system/multi-user.target.wants/taskq*'
says "no unit has failed" "" host systemctl --failed --no-legend
# As `systemctl poweroff`, which would look for a bus.
kill -s RTMIN+4 "$first"
wait $booted
