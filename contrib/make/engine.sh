# shellcheck shell=bash
# Sourced after machine.sh: a Docker Engine and containerd of our own, apart from any other on this machine: own
# sockets, own state in one temporary folder, no bridge, no firewall rule. Both end with the script that started them.

ENGINE_FOLDER=
ENGINE_PIDS=()
ENGINE_CGROUP=

# Starts the engine and waits until it answers; sets ENGINE_HOST, ENGINE_DOCKERD_PID and ENGINE_CONTAINERD_PID.
start_engine() {
    [[ $(id -u) == 0 ]] || die "a Docker Engine of our own needs root"
    need dockerd=docker.io containerd=containerd runc=runc docker=docker.io
    trap stop_engine EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    # Not below the checkout: sockets have short paths, and /tmp may be memory.
    ENGINE_FOLDER=$(mktemp -d "${CASTOFF_TEST_TMPDIR:-/var/tmp}/castoff-engine-XXXXXX")
    mount_cgroups
    mkdir -p "$ENGINE_FOLDER"/{containerd,run,config}
    printf 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n' >"$ENGINE_FOLDER/config/containerd.toml"
    local containerd="$ENGINE_FOLDER/run/containerd.sock" log=$ENGINE_FOLDER/log
    setsid containerd --config "$ENGINE_FOLDER/config/containerd.toml" --root "$ENGINE_FOLDER/containerd" \
        --state "$ENGINE_FOLDER/run/containerd" --address "$containerd" >"$log.containerd" 2>&1 &
    export ENGINE_CONTAINERD_PID=$!
    ENGINE_PIDS=("$ENGINE_CONTAINERD_PID")
    wait_for "containerd" "$ENGINE_CONTAINERD_PID" "$log.containerd" test -S "$containerd"
    printf '{}\n' >"$ENGINE_FOLDER/config/daemon.json"
    export ENGINE_HOST="unix://$ENGINE_FOLDER/run/docker.sock"
    setsid dockerd --config-file "$ENGINE_FOLDER/config/daemon.json" --host "$ENGINE_HOST" --containerd "$containerd" \
        --data-root "$ENGINE_FOLDER/docker" --exec-root "$ENGINE_FOLDER/run/docker" \
        --pidfile "$ENGINE_FOLDER/run/docker.pid" --bridge=none --iptables=false --ip6tables=false \
        >"$log.dockerd" 2>&1 &
    export ENGINE_DOCKERD_PID=$!
    ENGINE_PIDS=("$ENGINE_DOCKERD_PID" "${ENGINE_PIDS[@]}")
    wait_for "dockerd" "$ENGINE_DOCKERD_PID" "$log.dockerd" docker --host "$ENGINE_HOST" info
    say "Docker Engine $(docker --host "$ENGINE_HOST" version --format '{{.Server.Version}}') of our own: $ENGINE_HOST"
}

# wait_for NAME PID LOG COMMAND...: until the command succeeds; fails with the log when the process ends or 60 s pass.
wait_for() {
    local name=$1 pid=$2 log=$3 tries
    shift 3
    for ((tries = 0; tries < 300; tries++)); do
        if "$@" >/dev/null 2>&1; then return; fi
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.2
    done
    tail -n 20 "$log" >&2
    die "$name does not answer (its log is above)"
}

# A machine without an init that mounts them (a CI container) has no cgroup hierarchy, and runc needs one.
mount_cgroups() {
    [[ $(stat -f -c %T /sys/fs/cgroup) == cgroup2fs ]] && return
    [[ -d /sys/fs/cgroup/devices ]] && return
    mount -t cgroup2 castoff-test-cgroup /sys/fs/cgroup || die "cannot mount a cgroup hierarchy, which containers need"
    ENGINE_CGROUP=/sys/fs/cgroup
}

# Ends what start_engine started, by process id, newest first, and removes the folder. Keeps the script's exit code.
stop_engine() {
    local code=$? pid tries
    trap - EXIT
    [[ -n $ENGINE_FOLDER ]] || exit "$code"
    if ((code != 0)) && [[ -f $ENGINE_FOLDER/log.dockerd ]]; then
        say "the engine's last words:"
        tail -n 5 "$ENGINE_FOLDER/log.dockerd" >&2
    fi
    for pid in "${ENGINE_PIDS[@]}"; do
        kill "$pid" 2>/dev/null || continue
        for ((tries = 0; tries < 100; tries++)); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true # it has had its ten seconds
        wait "$pid" 2>/dev/null || true       # its exit code is of no interest
    done
    # A container that was running when the engine was killed leaves mounts below the folder.
    local mount
    awk -v folder="$ENGINE_FOLDER/" 'index($5, folder) == 1 { print $5 }' /proc/self/mountinfo | sort -r |
        while read -r mount; do umount -l "$mount"; done
    rm -rf --one-file-system "$ENGINE_FOLDER"
    [[ -z $ENGINE_CGROUP ]] || umount -l "$ENGINE_CGROUP"
    exit "$code"
}
