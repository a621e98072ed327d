#!/usr/bin/env bash
# The real-input check: a real file system, copied through the Verilated card by stock NBD clients,
# compared byte for byte on the way back and on the backing files. Exits non-zero on any difference.
#
#   demo.sh path/to/volplane [mebibytes of image, default 320]
set -euo pipefail
cd "$(dirname "$0")/.."
volplane=$(realpath "$1")
size=${2:-320}
work=target/demo
rm -rf "$work"
mkdir -p "$work/examples"
cp examples/quickstart.toml "$work/examples/"
config=$work/examples/quickstart.toml
socket=$work/nbd.sock
rows=()
failed=0

note() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }

# Runs a check and keeps its row: name, result, seconds.
check() {
    local name=$1 began=$SECONDS result=pass
    shift
    note "$name"
    "$@" >>"$work/log" 2>&1 || { result=FAIL; failed=1; }
    rows+=("$(printf '%-58s %-5s %4d s' "$name" "$result" $((SECONDS - began)))")
}

uri() { echo "nbd+unix:///$1?socket=$socket"; }

start() {
    "$volplane" serve "$config" --socket "$socket" >"$work/serve.log" 2>&1 &
    server=$!
    for _ in $(seq 100); do
        [ -S "$socket" ] && nbdinfo --size "$(uri striped)" >/dev/null 2>&1 && return
        kill -0 "$server" 2>/dev/null || { cat "$work/serve.log"; exit 1; }
        sleep 0.2
    done
    echo "volplane did not start serving" >&2
    exit 1
}

stop() {
    kill -INT "$server"
    wait "$server"
}

# A real directory tree, up to 3/4 of the image.
note "gathering a directory tree"
tree=$work/tree
mkdir -p "$tree"
budget=$((size * 3 / 4 * 1024))
for source in /usr/share/doc /usr/include /usr/lib/python3 /usr/share/perl /usr/share/locale /usr/lib/x86_64-linux-gnu /usr/lib/gcc; do
    [ -d "$source" ] || continue
    while IFS= read -r entry; do
        need=$(du -sk "$entry" | cut -f1)
        ((need > budget)) && continue
        mkdir -p "$tree$(dirname "$entry")"
        cp -a "$entry" "$tree$entry"
        budget=$((budget - need))
    done < <(find "$source" -mindepth 1 -maxdepth 1 | sort)
done
note "making an ext4 image of $(du -sm "$tree" | cut -f1) MB in $(find "$tree" -type f | wc -l) files"
image=$work/image.ext4
mke2fs -q -t ext4 -d "$tree" -U clear -E hash_seed=00000000-0000-0000-0000-000000000001 "$image" "${size}M"

# The part of a raw disk that the image covers equals it.
same() { cmp -n "$(stat -c %s "$image")" "$image" "$1"; }

start
trap 'kill -INT $server 2>/dev/null || true' EXIT
grep -A20 '' "$work/serve.log" | head -20

check "nbdcopy: image -> striped" nbdcopy --flush "$image" "$(uri striped)"
check "qemu-img: striped -> file" qemu-img convert -f raw -O raw "$(uri striped)" "$work/striped.raw"
check "  equals the image" same "$work/striped.raw"
check "qemu-img: image -> concatenated" qemu-img convert -n -f raw -O raw "$image" "$(uri concatenated)"
check "nbdcopy: concatenated -> file" nbdcopy "$(uri concatenated)" "$work/concatenated.raw"
check "  equals the image" same "$work/concatenated.raw"

if [ -e /dev/fuse ] && command -v nbdfuse >/dev/null && [ "$(id -u)" = 0 ] && [ -e /dev/loop-control ]; then
    mkdir -p "$work/fuse" "$work/mount"
    mounted() {
        nbdfuse "$work/fuse" "$(uri striped)" & fuse=$!
        for _ in $(seq 50); do [ -e "$work/fuse/nbd" ] && break; sleep 0.1; done
        e2fsck -fn "$work/fuse/nbd" && mount -o loop,ro "$work/fuse/nbd" "$work/mount" &&
            diff -r --no-dereference "$tree" "$work/mount" --exclude=lost+found
        local result=$?
        umount "$work/mount" 2>/dev/null || true
        fusermount3 -u "$work/fuse"
        wait "$fuse" || true
        return "$result"
    }
    check "nbdfuse + e2fsck + mount + diff -r" mounted
else
    rows+=("nbdfuse + mount: skipped, no /dev/fuse or no loop devices here")
fi
stop
trap - EXIT

for disk in striped concatenated; do
    reassembled() { python3 examples/reassemble.py "$config" "$disk" >"$work/$disk.backing" && same "$work/$disk.backing"; }
    check "backing files of $disk, put together independently" reassembled
done
check "e2fsck of what the backing files hold" e2fsck -fn "$work/striped.backing"

printf '\n%s\n' "${rows[@]}"
if ((failed)); then
    echo "FAILED: see $work/log" >&2
    exit 1
fi
rm -rf "$work/tree" "$work"/*.raw "$work"/*.backing
