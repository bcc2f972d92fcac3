# SPDX-License-Identifier: MIT
# shellcheck shell=sh
#
# Scenarios with disks, for drive, beside those of scenarios.sh: LUN 0 of the guest's controller is its
# root disk, a copy of root.ext4, and the others are for tests.  Images are in $disks.

# root_disk: a new one.  blank NUMBER MIB: an empty image.
root_disk() {
	[ -r "$dir/root.ext4" ] || skip "there is no root disk image"
	mkdir -p "$disks"
	cp "$dir/root.ext4" "$disks/root.img" || fail "no room for the root disk"
}
blank() {
	rm -f "$disks/$1.img"
	truncate -s "$2M" "$disks/$1.img" || fail "no image of $2 MiB"
}

# disk_guest FLAVOUR SYNIC CPUS DO ARGUMENT...: a guest with its root on LUN 0; DO is NAME and further
# words for its kernel.
disk_guest() {
	local flavour=$1 synic=$2 cpus=$3 what=$4
	shift 4
	guest "$flavour" "$synic" "$cpus" "vmtest=root vmtest_root=0 vmtest_do=$what" \
		--disk "file=$disks/root.img,lun=0,queues=$cpus" "$@"
}

# The console so far goes to one of all boots.
keep_console() {
	sleep 0.2
	cat "$work/console" >>"$work/all"
}
all_consoles() { cp "$work/all" "$work/console"; }

# A file system that was let go of in good order, with nothing to recover.
clean_image() {
	"$bin/e2fsck" -fn "$disks/$1.img" >"$work/fsck" 2>&1 ||
		fail "e2fsck of $1.img: $(head -n 4 "$work/fsck" | tr '\n' ';')"
	! grep -qi 'journal' "$work/fsck" || fail "$1.img was not unmounted: $(grep -i journal "$work/fsck" | head -n 1)"
}

# The kernel complains of nothing that it should not; errors of disks are for the scenarios that make them.
healthy_disks() {
	healthy
	unseen 'EXT4-fs.*(error|warning)|hv_storvsc.*(fail|error|Invalid)|I/O error|hung_task|blocked for more than'
}

# disk_root FLAVOUR SYNIC CPUS END: two boots from the same disk.
scenario_disk_root() {
	local boot
	root_disk
	: >"$work/all"
	for boot in 1 2; do
		disk_guest "$1" "$2" "$3" "files vmtest_end=$4"
		wait_for 'vmtest: up$' 300
		[ "$4" != shutdown ] || {
			send shutdown
			wait_for 'vmtest: shutdown asked' 30
		}
		wait_for 'vmtest: ok' 60
		ended 20 0
		seen 'vmtest: root on /dev/sd[a-z]* ext4'
		seen "vmtest: channels $3$"
		seen 'lsvmbus: .*scsi .*driver hv_storvsc'
		healthy_disks
		clean_image root
		keep_console
	done
	all_consoles
	seen 'vmtest: wrote 87 files'
	seen 'vmtest: read 87 files'
	clocks_agree
	pass "channels $3, files of one boot read at the next, e2fsck clean twice"
}

# disk_fio FLAVOUR SYNIC CPUS MIB SPEC: verified load of every kind.
scenario_disk_fio() {
	local spec=$5
	root_disk
	case $spec in file*)
		blank 1 128
		spec="file=$disks/1.img${spec#file}"
		;;
	esac
	disk_guest "$1" "$2" "$3" "fio vmtest_size=$4" --disk "$spec,lun=1"
	wait_for 'vmtest: ok' 900
	ended 20 0
	healthy_disks
	clean_image root
	pass "$(lines_like 'vmtest: fio ') verified runs, channels $(sed -n 's/.*vmtest: channels //p' "$work/console")"
}

# Nothing that the VMM or its guest have not made durable is left of a disk.
cut_power() {
	send "disk fault 1 cut"
	kill -KILL "$(cat "$work/vmm.pid")"
	until_ended 20
	sleep 0.3
}
until_ended() {
	local end=$(($(uptime_s) + $1))
	until [ -s "$work/status" ]; do
		[ "$(uptime_s)" -lt $end ] || fail "the VMM has not ended after $1 s"
		sleep 0.1
	done
}
last_durable() { sed -n 's/.*vmtest: durable \([0-9]*\)$/\1/p' "$work/console" | tail -n 1; }

# disk_cut SYNIC CPUS: single records, flushed or written through, and blocks that nobody flushed.
scenario_disk_cut() {
	local round count told there others late
	root_disk
	: >"$work/all"
	for round in 1 2 3; do
		blank 1 64
		case $round in 3) count=50 ;; *) count=8000 ;; esac
		disk_guest cloud "$1" "$2" "records vmtest_records=$count" \
			--disk "file=$disks/1.img,lun=1,faulty=drop"
		case $round in
		3) wait_for 'vmtest: undurable' 300 ;;
		*) wait_for "vmtest: durable $((round * 137))" 300 ;;
		esac
		cut_power
		told=$(last_durable)
		# shellcheck disable=SC2046 # the words are wanted
		set -- "$1" "$2" $("$bin/aid" count-records "$disks/1.img" $count)
		there=$3 others=$4 late=$5
		[ "$there" -gt "$told" ] || fail "round $round: the guest was told that records 0 to $told are durable, $there are there"
		[ "$there" -le $((told + 3)) ] || fail "round $round: $there records, and the guest tells of $told only"
		[ $round != 3 ] || [ "$late" = 0 ] || fail "$late blocks are there that nobody flushed"
		printf '%s| %s\n' "$name" "round $round: durable 0 to $told, there $there, others $others, late $late"
		keep_console
		root_disk
	done
	all_consoles
	pass "no durable record was lost in 3 power cuts; of 256 blocks without a flush none was kept"
}

# disk_cut_files SYNIC CPUS: the same with ext4, whose journal relies on flushes.
scenario_disk_cut_files() {
	local round told sum=0
	: >"$work/all"
	for round in 1 2; do
		root_disk
		blank 1 64
		disk_guest cloud "$1" "$2" durable_files --disk "file=$disks/1.img,lun=1,faulty=drop"
		wait_for "vmtest: durable $((round * 23))" 300
		cut_power
		told=$(last_durable)
		keep_console
		root_disk
		disk_guest cloud "$1" "$2" "durable_files vmtest_boot=2 vmtest_durable=$told" \
			--disk "file=$disks/1.img,lun=1"
		wait_for 'vmtest: ok' 300
		ended 20 0
		seen "vmtest: there are $told durable files"
		healthy_disks
		keep_console
		sum=$((sum + told))
	done
	all_consoles
	pass "$sum durable files in 2 power cuts, all there, e2fsck clean"
}

# disk_trim SYNIC CPUS: what is trimmed takes no room any more where the images are.
scenario_disk_trim() {
	local used
	root_disk
	blank 1 64
	blank 2 32
	disk_guest cloud "$1" "$2" trim --disk "file=$disks/1.img,lun=1" --disk "file=$disks/2.img,lun=2"
	wait_for 'vmtest: ok' 300
	ended 20 0
	healthy_disks
	used=$(du -k "$disks/1.img" | cut -f1)
	[ "$used" -lt 10240 ] || fail "after fstrim the image has $used KiB"
	[ "$(du -k "$disks/2.img" | cut -f1)" = 0 ] ||
		fail "after blkdiscard the image has $(du -k "$disks/2.img" | cut -f1) KiB"
	clean_image 1
	pass "24 MiB of a file given back by fstrim, $used KiB left; a whole disk by blkdiscard"
}

# obey SECONDS: does what the guest asks for by lines "vmtest: resize MIB", "vmtest: fault WORDS",
# "vmtest: add N", "vmtest: remove N", until it is over.
obey() {
	local end=$(($(uptime_s) + $1)) done=0 line
	until [ "$(lines_like 'vmtest: ok')" -ge 1 ]; do
		line=$(grep -aoE 'vmtest: (resize|fault|add|remove) .*' "$work/console" | sed -n "$((done + 1))p")
		case $line in
		'')
			grep -qa 'vmtest: FAILED' "$work/console" &&
				fail "guest: $(sed -n 's/.*vmtest: FAILED //p' "$work/console" | head -n 1)"
			[ ! -s "$work/status" ] || [ "$(lines_like 'vmtest: ok')" -ge 1 ] ||
				fail "the VMM ended with status $(cat "$work/status")"
			[ "$(uptime_s)" -lt $end ] || fail "no end in $1 s"
			sleep 0.05
			continue
			;;
		*resize*)
			truncate -s "${line##* }M" "$disks/1.img"
			send "disk resize 1"
			;;
		*fault*) send "disk fault 1 ${line#vmtest: fault }" ;;
		*add*) send "disk add mem=16M,lun=2" ;;
		*remove*) send "disk remove 2" ;;
		esac
		done=$((done + 1))
	done
	obeyed=$done
	ended 20 0
}

# disk_resize SYNIC CPUS
scenario_disk_resize() {
	root_disk
	blank 1 32
	disk_guest cloud "$1" "$2" resize --disk "file=$disks/1.img,lun=1"
	obey 400
	[ "$obeyed" = 3 ] || fail "grown $obeyed times, not 3"
	healthy_disks
	pass "idle, under load, under a mounted file system; $(sed -n 's/.*vmtest: \(file system .*\)/\1/p' "$work/console")"
}

# disk_hot SYNIC CPUS ROUNDS
scenario_disk_hot() {
	root_disk
	blank 1 32
	disk_guest cloud "$1" "$2" "hot vmtest_rounds=$3" --disk "file=$disks/1.img,lun=1"
	obey 600
	[ "$obeyed" = $(($3 * 2)) ] || fail "$obeyed changes, not $(($3 * 2))"
	healthy
	unseen 'EXT4-fs.*(error|warning)'
	clean_image root
	pass "LUN 2 came and went $3 times under load, LUN 1 went on: $(lines_like 'vmtest: gone') rounds"
}

# disk_errors SYNIC CPUS; disk_stall SYNIC CPUS
scenario_disk_errors() {
	root_disk
	blank 1 32
	disk_guest cloud "$1" "$2" errors --disk "file=$disks/1.img,lun=1,faulty"
	obey 300
	healthy
	seen 'vmtest: faults arrived'
	clean_image root
	pass "EIO with Unrecovered read error and Write error at the right sector, nothing else"
}
scenario_disk_stall() {
	root_disk
	blank 1 32
	blank 2 32
	disk_guest cloud "$1" "$2" stall --disk "file=$disks/1.img,lun=1,faulty" --disk "file=$disks/2.img,lun=2"
	obey 300
	healthy_disks
	pass "LUN 2 went on while LUN 1 stalled with 64 requests, then that one, too"
}

# disk_reload SYNIC CPUS ROUNDS
scenario_disk_reload() {
	root_disk
	disk_guest cloud "$1" "$2" "reload vmtest_where=memory vmtest_rounds=$3" --disk "mem=32M,lun=1"
	wait_for 'vmtest: ok' $((200 + $3 * 20))
	ended 20 0
	healthy_disks
	pass "$3 times, $2 channels"
}

# disk_tools SYNIC CPUS; disk_conformance SYNIC CPUS
scenario_disk_tools() {
	root_disk
	disk_guest cloud "$1" "$2" tools --disk "mem=32M,lun=1,serial=VMBUS0001" \
		--disk "mem=32M,lun=2,sector=4096,ro,serial=VMBUS0002"
	wait_for 'vmtest: ok' 300
	ended 20 0
	healthy
	pass "sg3_utils on a disk of 512 and on a read-only one of 4096 bytes"
}
scenario_disk_conformance() {
	local failed known=0 line
	root_disk
	disk_guest cloud "$1" "$2" "conformance vmtest_test=ALL" --disk "mem=32M,lun=1,serial=VMBUS0001"
	wait_for 'vmtest: ok' 700
	ended 20 0
	healthy
	failed=$(sed -n 's/.*iscsi: Suite \(.*\), Test \(.*\) had failures:.*/\1\/\2/p' "$work/console")
	for line in $failed; do
		grep -q "^$line " "$dir/conformance" || fail "not explained: $(echo "$failed" | tr '\n' ' ')"
		known=$((known + 1))
	done
	line=$(sed -n 's/.*iscsi: *tests *//p' "$work/console" | head -n 1 | tr -s ' ')
	[ -n "$line" ] || fail "the suite did not come to its end"
	pass "iscsi-test-cu: total, run, passed, failed, inactive: $line; failures that are explained: $known"
}

# Where a disk's provider is: see scenario_provider.
start_blk() {
	# shellcheck disable=SC2016 # expands in the inner shell
	sh -c 'echo $$ >"$0"; exec "$@"' "$work/provider.pid" "$bin/vmbus-blk" serve -s "$work/device" "$@" \
		"file=$disks/root.img,lun=0" "file=$disks/1.img,lun=1,queues=$blk_queues" >>"$work/provider" 2>&1 </dev/null &
	until_true 10 "the provider does not start: $(cat "$work/provider")" test -s "$work/provider.pid"
}

# disk_kill SYNIC CPUS KILLS: root disk and test disk are in another process, which is killed so many
# times while the guest's load checks what it reads.
scenario_disk_kill() {
	local n=0
	provider_disks "$1" "$2"
	while [ $n -lt "$3" ]; do
		sleep "0.$((n * 7 % 40 + 10))"
		kill -KILL "$(cat "$work/provider.pid")" || fail "the provider ended: $(tail -n 1 "$work/provider")"
		rm -f "$work/provider.pid"
		n=$((n + 1))
		start_blk
		until_true 20 "no provider is back after kill $n: $(cat "$work/answer" "$work/provider")" provider_back $n
		told pause_ns >>"$work/pauses"
	done
	provider_disks_end
	pass "$n kills, $(sed -n 's/.*vmtest: loaded //p' "$work/console") rounds of verified load, pause $(pauses)"
}

# disk_save SYNIC CPUS TIMES: the machine is saved and goes on in another process, under verified load.
scenario_disk_save() {
	local n=0
	root_disk
	blank 1 32
	: >"$work/all"
	disk_guest cloud "$1" "$2" load --disk "file=$disks/1.img,lun=1"
	wait_for 'vmtest: load$' 300
	while [ $n -lt "$3" ]; do
		sleep "$((n % 3)).$((n * 7 % 9 + 1))"
		until_true 30 "no answer: $(cat "$work/answer" 2>/dev/null)" status_of
		send "save $work/saved"
		ended 60 9
		keep_console
		n=$((n + 1))
		vmm --restore "$work/saved" --synic "$1" --control "$work/control" \
			--disk "file=$disks/root.img,lun=0,queues=$2" --disk "file=$disks/1.img,lun=1"
	done
	until_true 30 "no answer: $(cat "$work/answer" 2>/dev/null)" status_of
	send shutdown
	wait_for 'vmtest: ok' 200
	ended 20 0
	healthy_disks
	clean_image root
	keep_console
	all_consoles
	healthy_disks
	pass "saved $n times, $(sed -n 's/.*vmtest: loaded //p' "$work/console") rounds of verified load"
}

# disk_upgrade SYNIC CPUS TIMES: the same with a polite hand-over to the next process.
handed_over() {
	status_of && [ "$(told present)" = 1 ] && [ "$(told handovers)" = "$1" ] && [ "$(told pause_ns)" -gt 0 ]
}
scenario_disk_upgrade() {
	local n=0 before
	provider_disks "$1" "$2"
	while [ $n -lt "$3" ]; do
		sleep "0.$((n * 7 % 40 + 10))"
		before=$(cat "$work/provider.pid")
		rm -f "$work/provider.pid"
		n=$((n + 1))
		start_blk --take-over
		until_true 20 "no hand-over $n: $(cat "$work/answer" "$work/provider")" handed_over $n
		until_true 20 "the process before hand-over $n stays" is_over "$before"
		told pause_ns >>"$work/pauses"
	done
	provider_disks_end
	pass "$n hand-overs, $(sed -n 's/.*vmtest: loaded //p' "$work/console") rounds of verified load, pause $(pauses)"
}
is_over() { ! kill -0 "$1" 2>/dev/null; }

# provider_disks SYNIC CPUS: a guest under load with all its disks in a process of vmbus-blk.
provider_disks() {
	[ -x "$bin/vmbus-blk" ] || skip "vmbus-blk was not built"
	root_disk
	blank 1 32
	: >"$work/pauses"
	blk_queues=$2
	guest cloud "$1" "$2" "vmtest=root vmtest_root=0 vmtest_do=load" --device "provider=$work/device"
	until_true 30 "the VMM does not answer" status_of
	start_blk
	wait_for 'vmtest: load$' 300
}
provider_disks_end() {
	send shutdown
	wait_for 'vmtest: ok' 200
	ended 20 0
	healthy_disks
	clean_image root
}
pauses() {
	sort -n "$work/pauses" | awk '
		{ p[NR] = $1 }
		END { printf "median %.1f ms, longest %.1f ms", p[int((NR + 1) / 2)] / 1e6, p[NR] / 1e6 }'
}

# What KVM counts, of all machines: there is one.
kvm_counts() {
	(cd /sys/kernel/debug/kvm && grep . exits halt_exits io_exits mmio_exits hypercalls irq_exits \
		irq_window_exits signal_exits irq_injections halt_wakeup 2>/dev/null)
}

# bench_with LABEL: reads the counters at the guest's marks.
bench_with() {
	local depth
	for depth in 1 32; do
		wait_for "vmtest: bench begin $depth" 400
		kvm_counts >"$work/before"
		wait_for "vmtest: bench end $depth" 400
		kvm_counts >"$work/after"
		sed -n "s/.*vmtest: bench end $depth requests \([0-9]*\) interrupts \([0-9]*\) iops \([0-9]*\).*/\1 \2 \3/p" \
			"$work/console" >"$work/told"
		awk -F'[: ]' -v label="$1 depth $depth" '
			FILENAME ~ /told$/ { requests = $1; interrupts = $2; rate = $3; next }
			FILENAME ~ /before$/ { before[$1] = $2; next }
			$1 == "exits" { exits = $2 - before[$1]; next }
			$1 == "irq_exits" { own += $2 - before[$1] }
			$2 != before[$1] { others = others sprintf(", %s %.2f", $1, ($2 - before[$1]) / requests) }
			END {
				# The outer machine has interrupts of its own meanwhile: irq_exits.
				printf "%s: exits/request %.2f (%.2f without irq_exits), interrupts/request %.2f, %d requests/s\n",
					label, exits / requests, (exits - own) / requests, interrupts / requests, rate
				print label " for each request: " substr(others, 3) >"/dev/stderr"
			}' "$work/told" "$work/before" "$work/after" >>"$work/figures" 2>>"$work/kinds"
	done
	wait_for 'vmtest: ok' 60
	ended 20 0
	keep_console
}

# disk_bench CPUS MIB: the same kernel and images, with our disk both ways, and with QEMU's virtio-blk.
scenario_disk_bench() {
	local way
	[ -x "$bin/qemu-system-x86_64" ] || skip "QEMU is not here"
	: >"$work/all"
	: >"$work/figures"
	: >"$work/kinds"
	for way in kernel user; do
		root_disk
		blank 1 64
		disk_guest cloud "$way" "$1" "bench vmtest_mib=$2" --disk "file=$disks/1.img,lun=1"
		bench_with "storvsc-$way"
	done
	root_disk
	blank 1 64
	qemu_guest "$1" "vmtest_do=bench vmtest_mib=$2 vmtest_disk=vdb"
	bench_with "virtio-blk"
	all_consoles
	sed "s/^/$name| /" "$work/figures" "$work/kinds"
	pass "$(tr '\n' ';' <"$work/figures")"
}

# qemu_guest CPUS APPEND: the same guest under QEMU.
qemu_guest() {
	: >"$work/console"
	rm -f "$work/status"
	{
		# shellcheck disable=SC2016 # expands in the inner shell
		sh -c 'echo $$ >"$0"; exec "$@"' "$work/vmm.pid" "$bin/qemu-system-x86_64" -L "$bin/qemu" -nodefaults \
			-machine q35,accel=kvm -cpu max,-xsave,-la57,-svm -smp "$1" -m 384M -nic none -display none -no-reboot \
			-serial stdio -kernel "$dir/kernels/cloud/vmlinuz" -initrd "$dir/kernels/cloud/initrd" \
			-append "console=ttyS0 loglevel=5 panic=-1 vmtest=root vmtest_root=vda vmtest_bus=virtio-blk $2" \
			-drive "if=none,id=d0,file=$disks/root.img,format=raw,aio=io_uring" -device virtio-blk-pci,drive=d0 \
			-drive "if=none,id=d1,file=$disks/1.img,format=raw,aio=io_uring" -device virtio-blk-pci,drive=d1 \
			</dev/null 2>&1
		echo $? >"$work/status"
		rm -f "$work/vmm.pid"
	} | relay &
}
