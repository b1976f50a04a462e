#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# srb at work, as its user meets it: a volume of a REST server becomes a disk with partitions, file
# systems and LVM, takes a real tree of files, grows while it is mounted, goes and comes back; each
# time every file is compared. `make demo` runs it in the VM, as root; all data are on /scratch.
set -euo pipefail

readonly DATA=/scratch/volumes LISTS=/scratch/lists EXTRA=/scratch/extra
readonly LOGS=/run/srb-demo
# What is copied at least; the system's own files are as many, and more are made if they are not.
readonly FILES=5000 BYTES=$((200 * 1024 * 1024))
PATH=/srb/bin:$PATH
STEP=0
TITLE="nothing yet"
AGENT=
PLAYGROUND=
# Open for both ways, so that nothing ever comes from it, nor its end.
exec {NEVER}<> <(:)

# step TITLE...: begins a step.
step() {
    STEP=$((STEP + 1))
    TITLE=$*
    printf '\n%2d. %s  [%d s]\n' "$STEP" "$TITLE" "$SECONDS"
}

# run COMMAND: shows a command as a user types it, and runs it.
run() {
    printf '    $ %s\n' "$1"
    eval "$1"
}

# long COMMAND...: as run, with all commands side by side, and with what the disk has moved while
# they last.
long() {
    local jobs=() command job
    for command in "$@"; do
        printf '    $ %s\n' "$command"
        (eval "$command") &
        jobs+=($!)
    done
    progress "${jobs[@]}"
    for job in "${jobs[@]}"; do
        wait "$job"
    done
}

# progress PID...: until they have ended. On a terminal one line that changes, else one in a while.
progress() {
    local turn=0 marks='|/-+' began=$SECONDS said=$SECONDS
    while kill -0 "$@" 2>/dev/null; do
        nap 0.2
        if [ -t 1 ]; then
            printf '\r\033[K    %s %s' "${marks:turn++%4:1}" "$(moved "$began")"
        elif [ $((SECONDS - said)) -ge 8 ]; then
            said=$SECONDS
            printf '    ... %s\n' "$(moved "$began")"
        fi
    done
    [ ! -t 1 ] || printf '\r\033[K'
}

# nap SECONDS: as sleep, without a process of its own, which in a VM without KVM is dear.
nap() { read -rt "$1" -u "$NEVER" || true; }

# moved BEGAN: for how long, and what went through the disk so far, if it is there.
moved() {
    local stat=() text
    text="$((SECONDS - $1)) s"
    read -r -a stat 2>/dev/null </sys/block/disk1/stat || true
    if [ ${#stat[@]} -gt 6 ]; then
        text+=", disk1: $((stat[2] / 2048)) MiB read, $((stat[6] / 2048)) MiB written so far"
    fi
    printf '%s' "$text"
}

# until_true WHAT COMMAND: waits for something that is soon true.
until_true() {
    local _
    for _ in {1..300}; do
        if eval "$2" 2>/dev/null; then return; fi
        nap 0.1
    done
    echo "$1: not so after 30 s" >&2
    return 1
}

# finish: what went wrong, if anything did; ends what the demo started.
finish() {
    local status=$?
    trap - EXIT
    if [ "$status" != 0 ]; then
        printf '\nFAILED in step %d (%s) with status %d\n' "$STEP" "$TITLE" "$status"
        printf '%s\n' "--- the module's last words:"
        dmesg | grep -F 'srb:' | tail -n 15 || true
        printf '%s\n' "--- the agent's last words:"
        tail -n 15 "$LOGS/agent.log" 2>/dev/null || true
    fi
    # They have ended by themselves if all went well.
    [ -z "$AGENT" ] || kill "$AGENT" 2>/dev/null || true
    [ -z "$PLAYGROUND" ] || kill "$PLAYGROUND" 2>/dev/null || true
    exit "$status"
}
trap finish EXIT

# extra_files: as many files, each with other numbers in it, as the system lacks of the tree.
extra_files() {
    local files bytes lack_files lack_bytes count each
    read -r files bytes < <(find /etc /usr/lib /usr/share -type f -printf '%s\n' |
        awk '{ sum += $1 } END { print NR, sum }')
    lack_files=$((files < FILES ? FILES - files : 0))
    lack_bytes=$((bytes < BYTES ? BYTES - bytes : 0))
    mkdir -p "$EXTRA"
    count=$((lack_files > lack_bytes / 16384 ? lack_files : lack_bytes / 16384 + 1))
    each=$((lack_bytes / count + 4096))
    { seq 1000000000 || true; } | head -c $((count * each)) |
        split -a 5 -b "$each" - "$EXTRA/numbers-"
}

# list NAME FOLDER...: the checksums of all files below the folders, in $LISTS/NAME.1 to .8.
list() {
    local name=$1
    shift
    (cd / && find "$@" -type f -print0 | sort -z | xargs -0 b2sum) >"$LISTS/all"
    split -n r/8 --numeric-suffixes=1 -a 1 "$LISTS/all" "$LISTS/$name."
    rm "$LISTS/all"
}

# compare: drops all caches and compares every file of both file systems with its checksum.
compare() {
    run 'sync; echo 3 > /proc/sys/vm/drop_caches'
    long "cd /mnt/lvm && ls $LISTS/lvm.* | xargs -n 1 -P 8 b2sum --check --quiet" \
        "cd /mnt/ext4 && ls $LISTS/ext4.* | xargs -n 1 -P 8 b2sum --check --quiet"
    COMPARED=$((COMPARED + COUNT))
    echo "    all $COUNT files are as they were"
}

mkdir -p "$LOGS" "$LISTS" /mnt/lvm /mnt/ext4
COMPARED=0
cd /srb

step "Load the module"
run 'insmod srb.ko'

step "Start a REST server to try it with, its volumes being files on the scratch disk"
run "srb-playground --port 8080 --datapath $DATA >$LOGS/playground.log 2>&1 &"
PLAYGROUND=$!
until_true "the server listens" "grep -q listening $LOGS/playground.log"

step "Start the agent, which does the module's HTTP"
run "srb-agent >$LOGS/agent.log 2>&1 &"
AGENT=$!
until_true "the agent serves" "[ -S /run/srb/agent.sock ]"

step "Say where the volumes are, and create one of 1 GiB"
run 'echo http://127.0.0.1:8080/ > /sys/class/srb/add_urls'
run 'echo "vol1 1G" > /sys/class/srb/create'
run 'cat /sys/class/srb/volumes'

step "Attach it: it is a disk like any other"
run 'echo "vol1 disk1" > /sys/class/srb/attach'
until_true "/dev/disk1 is there" "[ -b /dev/disk1 ]"
run 'lsblk -o NAME,SIZE,PHY-SEC,LOG-SEC,TYPE /dev/disk1'

step "Partition it: one for LVM, the rest for ext4"
run "printf 'label: gpt\nsize=640M, type=lvm\ntype=linux\n' | sfdisk --quiet /dev/disk1"
until_true "the partitions are there" "[ -b /dev/disk1p1 ] && [ -b /dev/disk1p2 ]"

step "XFS on a logical volume in the first, ext4 in the second; mount both"
run 'pvcreate -q /dev/disk1p1 && vgcreate -q srbdemo /dev/disk1p1'
run 'lvcreate -q -Wn -l 100%FREE -n data srbdemo'
run 'mkfs.xfs -q /dev/srbdemo/data && mount /dev/srbdemo/data /mnt/lvm'
run 'mkfs.ext4 -q /dev/disk1p2 && mount /dev/disk1p2 /mnt/ext4'

step "Note the checksums of this system's own files, which are to be copied"
extra_files
long 'list lvm usr/lib; list ext4 etc usr/share scratch/extra'
COUNT=$(cat "$LISTS"/* | wc -l)
SIZE=$(cd / && cut -d ' ' -f 3- "$LISTS"/* | tr '\n' '\0' |
    du --bytes --files0-from=- | awk '{ sum += $1 } END { print sum }')
echo "    $COUNT files, $SIZE bytes"

step "Copy them to the disk"
long 'cp -a --parents -t /mnt/lvm /usr/lib && sync -f /mnt/lvm' \
    'cp -a --parents -t /mnt/ext4 /etc /usr/share /scratch/extra && sync -f /mnt/ext4'

step "Read them back from the server and compare"
compare

step "Extend the volume while it is mounted, then its last partition and the file system there"
run 'echo "vol1 1536M" > /sys/class/srb/extend'
run 'sfdisk --quiet --relocate gpt-bak-std /dev/disk1'
run "echo ', +' | sfdisk --quiet --no-reread --no-tell-kernel -N 2 /dev/disk1"
run 'partx --update --nr 2 /dev/disk1'
run 'resize2fs /dev/disk1p2'
run 'cat /proc/partitions | grep -E "name|disk1"'
run 'df -h /mnt/lvm /mnt/ext4'

step "What srb tells about the disk, and about itself"
run 'cd /sys/block/disk1; cat srb_name srb_size srb_urls srb_debug'
run 'srbctl status'

step "Unmount, deactivate, detach: the disk is gone, the volume stays on the server"
run 'umount /mnt/lvm /mnt/ext4 && vgchange -q -an srbdemo'
run 'cd /; echo disk1 > /sys/class/srb/detach'
run '[ ! -e /dev/disk1 ]'

step "Attach it again, and compare once more"
run 'echo "vol1 disk1" > /sys/class/srb/attach'
until_true "the partitions are there" "[ -b /dev/disk1p1 ] && [ -b /dev/disk1p2 ]"
run 'vgchange -q -ay srbdemo && mount /dev/srbdemo/data /mnt/lvm && mount /dev/disk1p2 /mnt/ext4'
compare
GROWN=$(cat /sys/block/disk1/srb_size)

step "Stop: detach, end the agent, unload the module"
run 'umount /mnt/lvm /mnt/ext4 && vgchange -q -an srbdemo'
run 'echo disk1 > /sys/class/srb/detach'
run "kill $AGENT && wait $AGENT"
AGENT=
run 'rmmod srb'
run "kill $PLAYGROUND && wait $PLAYGROUND"
PLAYGROUND=

echo
[ "$GROWN" = $((1536 * 1024 * 1024)) ]
echo "srb demo: $COUNT files with $SIZE bytes compared twice, $COMPARED checksums, 0 differ;" \
    "volume of 1 GiB grown to $GROWN bytes while mounted; $SECONDS s"
