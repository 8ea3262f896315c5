#!/bin/sh
# A VM's life by curl: made, looked at, stopped, snapshotted, cloned, resized, moved, deleted.
# Needs curl and python3. Against `make dev` it runs as it is; elsewhere set IZVOR_URL and IZVOR_TOKEN.
set -eu

api=${IZVOR_URL:-http://localhost:8082}/api/v1
key='ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKIxqweRN9HJs+WsxR/4j0dQKxpJb8IuNlmmyoYvnf8U you@example'

ask() { # METHOD PATH [BODY]: the answer's body; what is long work is waited for
    method=$1 path=$2
    shift 2
    curl --silent --show-error --fail-with-body -X "$method" "$api$path" \
        -H 'Content-Type: application/json' -H 'Prefer: wait=120' \
        ${IZVOR_TOKEN:+-H "Authorization: Bearer $IZVOR_TOKEN"} ${1:+-d "$1"}
}

field() { # NAME.NAME…: one value out of the JSON on standard input
    python3 -c 'import json, sys
value = json.load(sys.stdin)
for name in sys.argv[1].split("."):
    value = value[int(name)] if isinstance(value, list) else value[name]
print(value)' "$1"
}

say() { printf '%s\n' "$*"; }

say "Healthy: $(curl --silent --fail "${api%/api/v1}/health" | field status)"
say "Sizes: $(ask GET /vms/sizes | field count), templates: $(ask GET /templates | field count)"

vm=$(ask POST /vms '{"name":"my-server","template":"ubuntu-22.04","size":"medium",
    "cloud_init":{"user":"admin","ssh_keys":["'"$key"'"],"ip_config":"ip=dhcp"},
    "start_on_create":true}' | field vm.uuid)
say "Made $vm: $(ask GET "/vms/$vm" | field status) on $(ask GET "/vms/$vm" | field node)"

act() { ask POST "/vms/$vm/actions" "$1" | field task.status; }

say "Snapshot: $(act '{"action":"snapshot","snapshot_name":"first","description":"as it began"}')"
say "Reboot: $(act '{"action":"reboot"}')"
say "Suspend: $(act '{"action":"suspend"}')"
say "Resume: $(act '{"action":"resume"}')"
say "Stop: $(act '{"action":"stop"}')"
say "Roll back: $(ask POST "/vms/$vm/snapshots/first/rollback" '{}' | field task.status)"
say "Forget the snapshot: $(ask DELETE "/vms/$vm/snapshots/first" | field task.status)"
say "Resize: $(ask PATCH "/vms/$vm" '{"size":"large"}' | field vm.cores) cores"
copy=$(ask POST "/vms/$vm/actions" '{"action":"clone","clone_name":"my-copy"}' | field vm.uuid)
say "Clone: $copy"
node=$(ask GET "/vms/$vm" | field node)
other=$(ask GET /nodes | python3 -c 'import json, sys
print(next(n["name"] for n in json.load(sys.stdin)["nodes"] if n["name"] != sys.argv[1]))' "$node")
say "Migrate to $other: $(act '{"action":"migrate","node":"'"$other"'"}')"
say "Start: $(act '{"action":"start"}')"
say "Nodes: $(ask GET /nodes | field count), storage: $(ask GET /storage | field count)"
say "Cluster: $(ask GET /cluster/status | field status)," \
    "$(ask GET /cluster/resources | field running_vms) VMs run"
say "Delete: $(ask DELETE "/vms/$copy" | field message) $(ask DELETE "/vms/$vm" | field message)"
