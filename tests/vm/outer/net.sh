# SPDX-License-Identifier: MIT
# shellcheck shell=sh
#
# Scenarios with networks, for drive, beside those of scenarios.sh.  The outside of each guest is a TAP
# with the addresses 10.9.0.1 and fd09::1, where iperf3, netaid and an agent answer: agent does what
# inner/net asks for, by functions agent_NAME below.  A way of "qemu" is the same guest under QEMU with
# virtio-net, to see whether a scenario asks for what any NIC gives.

tap=vmtest0
nics='' # --net's of the guest

# A busybox's shell takes its own commands before those in PATH.
ip() { "$bin/ip" "$@"; }
netaid() { "$bin/netaid" "$@"; }

# background NAME COMMAND...: until the scenario ends, its output in $work/NAME.
background() {
	local what=$1
	shift
	# shellcheck disable=SC2016 # expands in the inner shell
	sh -c 'echo $$ >"$0"; exec "$@"' "$work/$what.pid" "$@" >>"$work/$what" 2>&1 </dev/null &
}

# net_down: nothing of a scenario's network stays; drive calls it after each.
net_down() {
	local link
	for link in $tap vmtest1 vmtest2; do
		[ ! -e /sys/class/net/$link ] || ip link del $link
	done
}

# servers ADDRESS...: what answers outside.
servers() {
	background udp "$bin/netaid" udp 7001
	background tcp "$bin/netaid" tcp 7002
	background iperf3 "$bin/iperf3" -s
	# shellcheck disable=SC2016 # expands in the inner shell
	background agent busybox nc -ll -p 7003 -e sh "$here/agent" "$dir" "$work" "$here"
}

# net_outside QUEUES: the TAP and its neighbours.
net_outside() {
	local module queues=''
	[ -x "$bin/netaid" ] || skip "the programs for networks are not here"
	for module in tun tap llc stp bridge garp mrp 8021q vhost_iotlb vhost vhost_net; do
		[ ! -r "$dir/netmods/$module.ko" ] || insmod "$dir/netmods/$module.ko" 2>/dev/null
	done
	mkdir -p /dev/net "$disks"
	[ -c /dev/net/tun ] || mknod /dev/net/tun c 10 200
	[ -r /proc/sys/net/ipv6/conf/default/accept_dad ] && echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
	[ "$1" = 1 ] || queues=multi_queue
	net_down
	# shellcheck disable=SC2086 # none, or one word
	ip tuntap add dev $tap mode tap $queues || fail "no TAP"
	ip address add 10.9.0.1/24 dev $tap
	ip -6 address add fd09::1/64 dev $tap nodad
	ip link set $tap txqueuelen 10000 up
	servers
	cat "$dir/kernels/cloud/initrd" "$dir/guest-net.cpio" >"$disks/initrd" || fail "no room for the guest's image"
}

mac_tap=02:00:00:09:00:02
mac_user=02:00:00:09:00:03

# net_guest SYNIC CPUS DO SPEC...: a guest with these NICs; DO is NAME and further words.
net_guest() {
	local synic=$1 cpus=$2 what=$3 spec
	shift 3
	nics=''
	for spec in "$@"; do nics="$nics --net $spec"; done
	if [ "$synic" = qemu ]; then
		net_qemu "$cpus" "$what" "$@"
		return
	fi
	# shellcheck disable=SC2086 # the words are wanted
	guest cloud "$synic" "$cpus" "vmtest=net_$what vmtest_devices=$((3 + $#))" --initrd "$disks/initrd" $nics
}

# part NAME SPEC: the value in "kind,name=value,...".
part() { echo ",$2" | tr ',' '\n' | sed -n "s/^$1=//p"; }

# net_qemu CPUS DO SPEC...: the same NICs as virtio-net; vhost=on in a SPEC is QEMU's.
net_qemu() {
	local cpus=$1 what=$2 spec n=0 queues args=''
	shift 2
	[ -x "$bin/qemu-system-x86_64" ] || skip "QEMU is not here"
	for spec in "$@"; do
		queues=$(part queues "$spec")
		case $spec in
		user*) args="$args -netdev user,id=n$n$(part hostfwd "$spec" | sed 's/^/,hostfwd=/')" ;;
		*)
			args="$args -netdev tap,id=n$n,ifname=$(part tap "$spec"),script=no,downscript=no"
			args="$args,vhost=$(part vhost "$spec" | grep . || echo off),queues=${queues:-1}"
			;;
		esac
		args="$args -device virtio-net-pci,romfile=,netdev=n$n,mac=$(part mac "$spec")"
		[ "${queues:-1}" = 1 ] || args="$args,mq=on,vectors=$((queues * 2 + 2))"
		n=$((n + 1))
	done
	: >"$work/console"
	rm -f "$work/status"
	{
		# shellcheck disable=SC2016,SC2086 # expands in the inner shell; the words are wanted
		sh -c 'echo $$ >"$0"; exec "$@"' "$work/vmm.pid" "$bin/qemu-system-x86_64" -L "$bin/qemu" -nodefaults \
			-machine q35,accel=kvm -cpu max,-xsave,-la57,-svm -smp "$cpus" -m 384M -display none -no-reboot \
			-serial stdio -kernel "$dir/kernels/cloud/vmlinuz" -initrd "$disks/initrd" \
			-append "console=ttyS0 loglevel=5 panic=-1 vmtest=net_$what vmtest_bus=virtio $(cat "$dir/append" 2>/dev/null)" \
			$args </dev/null 2>&1
		echo $? >"$work/status"
		rm -f "$work/vmm.pid"
	} | relay &
}

healthy_net() {
	healthy
	unseen 'hv_netvsc.*(rror|ail|nable|nvalid|nknown|imeout|nexpected)|NETDEV WATCHDOG|hung_task|blocked for more than'
}

# net_end SYNIC SECONDS: the guest comes to its end, and nobody complained.  What the NIC counted is told.
net_end() {
	wait_for 'vmtest: ok' "$2"
	ended 30 0
	healthy_net
}
# sum_of WORD PATTERN: of the numbers after it, or before it if it ends with a comma.
sum_of() {
	told_like "$2" | awk -v word="$1" '
		{
			for (i = 1; i <= NF; i++)
				if ($i == word) n += word ~ /,$/ ? $(i - 1) : $(i + 1)
		}
		END { print n + 0 }'
}
told_like() { sed -n "s/.*vmtest: \($1.*\)/\1/p" "$work/console"; }

# net_one DO SYNIC CPUS QUEUES SECONDS WORD...: a guest with one NIC at the TAP, which does it all alone.
net_one() {
	local what=$1 synic=$2 cpus=$3 queues=$4 seconds=$5
	shift 5
	net_outside "$queues"
	net_guest "$synic" "$cpus" "$what $*" "tap=$tap,mac=$mac_tap,queues=$queues"
	net_end "$synic" "$seconds"
}

# net_ping SYNIC CPUS QUEUES
scenario_net_ping() {
	net_one ping "$1" "$2" "$3" 500
	pass "$(sum_of sizes, 'pings\|outside: pings') pings of each size, each answer right; 65,500 bytes at most"
}

# net_offloads SYNIC CPUS QUEUES SECONDS
scenario_net_offloads() {
	net_one offloads "$1" "$2" "$3" 1500 "vmtest_seconds=$4"
	pass "$(lines_like 'vmtest: load .*Mbit/s') settings; all on:$(told_like 'load all on' | sed 's/.*)://');" \
		"all off:$(told_like 'load all off' | sed 's/.*)://')"
}

# net_file SYNIC CPUS QUEUES MIB
scenario_net_file() {
	net_one file "$1" "$2" "$3" 800 "vmtest_mib=$4"
	pass "$(told_like transfer | tr '\n' ';') $(told_like file)"
}

# net_mtu, net_vlan, net_ethtool, net_mac SYNIC CPUS QUEUES
scenario_net_mtu() {
	net_one mtu "$1" "$2" "$3" 500
	pass "$(told_like 'mtu [0-9]*:' | wc -l) changes under a stream; $(told_like 'mtu 20000')"
}
scenario_net_vlan() {
	net_one vlan "$1" "$2" "$3" 300
	seen 'vmtest: outside: tags: [1-9][0-9]* of vlan 5'
	pass "$(told_like 'outside: tags: ') $(told_like 'vlan 5:')"
}
scenario_net_ethtool() {
	net_one ethtool "$1" "$2" "$3" 400
	pass "channels changed $(lines_like 'vmtest: channels [0-9]*: sent') times under load, table, key and ring"
}
scenario_net_mac() {
	net_one mac "$1" "$2" "$3" 200
	pass "$(lines_like 'vmtest: mac ') addresses"
}

# net_link SYNIC CPUS: by the control socket.
scenario_net_link() {
	local round way
	net_outside 1
	net_guest "$1" "$2" link "tap=$tap,mac=$mac_tap"
	for round in 1 2 3; do
		for way in down up; do
			wait_for "vmtest: link $way $round" 200
			send "net 0 $way"
		done
		wait_for "vmtest: linked $round" 60
	done
	net_end "$1" 60
	pass "3 times down and up"
}

# net_reload SYNIC CPUS QUEUES ROUNDS
scenario_net_reload() {
	net_one reload "$1" "$2" "$3" $((200 + $4 * 20)) "vmtest_rounds=$4"
	pass "$4 times under traffic both ways"
}

# net_packets SYNIC CPUS QUEUES ECHOES: two packets each.
scenario_net_packets() {
	net_one packets "$1" "$2" "$3" 2300 "vmtest_packets=$4"
	pass "$(told_like 'packets\|outside: packets' | sed 's/, 0 stalls, 0 wrong//' | tr '\n' ';')"
}

# net_order SYNIC CPUS QUEUES
scenario_net_order() {
	net_one order "$1" "$2" "$3" 400
	pass "none late, none twice; $(sum_of sent 'flows\|outside: flows') sent," \
		"$(sum_of lost 'flows\|outside: flows') lost, each with a counter"
}

# net_user SYNIC CPUS: DHCP, and what a user-mode network lets through, both ways.
scenario_net_user() {
	net_outside 1
	net_guest "$1" "$2" user "user,mac=$mac_user,hostfwd=tcp:127.0.0.1:7102-:7002"
	wait_for 'vmtest: transfer up' 200
	[ "$1" = qemu ] || { status_of && sed "s/^/$name| /" "$work/answer"; }
	wait_for 'vmtest: forward' 300
	netaid transfer 127.0.0.1 7102 up 4 >"$work/forward" 2>&1 &&
		netaid transfer 127.0.0.1 7102 down 4 >>"$work/forward" 2>&1 ||
		fail "forwarded: $(tail -n 1 "$work/forward")"
	touch "$work/enough"
	net_end "$1" 60
	pass "$(told_like dhcp), $(told_like 'user:'), forwarded both ways"
}

# net_short SYNIC CPUS: for check.
scenario_net_short() {
	net_outside "$2"
	net_guest "$1" "$2" short "tap=$tap,mac=$mac_tap,queues=$2,capture=$disks/capture" "user,mac=$mac_user"
	net_end "$1" 300
	if [ "$1" != qemu ] && [ -x "$bin/tcpdump" ]; then
		"$bin/tcpdump" -Z root -nr "$disks/capture" icmp >"$work/captured" 2>"$work/tcpdump" ||
			fail "tcpdump: $(tail -n 1 "$work/tcpdump")"
		[ "$(grep -c 'echo request' "$work/captured")" -ge 100 ] ||
			fail "the capture has $(grep -c 'echo request' "$work/captured") echo requests only"
	fi
	pass "$(told_like dhcp), $(told_like 'iperf3:'), $(told_like 'transfer up 67')"
}

# net_save SYNIC CPUS TIMES: the machine goes on in another process, under verified streams.
scenario_net_save() {
	local n=0
	net_outside "$2"
	: >"$work/all"
	net_guest "$1" "$2" load "tap=$tap,mac=$mac_tap,queues=$2"
	wait_for 'vmtest: load$' 300
	while [ $n -lt "$3" ]; do
		sleep "$((n % 3)).$((n * 7 % 9 + 1))"
		until_true 30 "no answer: $(cat "$work/answer" 2>/dev/null)" status_of
		send "save $work/saved"
		ended 60 9
		sleep 0.2
		cat "$work/console" >>"$work/all"
		n=$((n + 1))
		# shellcheck disable=SC2086 # the words are wanted
		vmm --restore "$work/saved" --synic "$1" --control "$work/control" $nics
	done
	until_true 30 "no answer: $(cat "$work/answer" 2>/dev/null)" status_of
	touch "$work/enough"
	net_end "$1" 200
	cat "$work/console" >>"$work/all"
	cp "$work/all" "$work/console"
	healthy_net
	pass "saved $n times, $(told_like loaded)"
}

# net_hibernate SYNIC CPUS ROUNDS: suspended to a disk of ours.
scenario_net_hibernate() {
	[ "$1" != qemu ] || skip "it is about the drivers of a VMBus"
	net_outside "$2"
	nics="--net tap=$tap,mac=$mac_tap,queues=$2"
	# shellcheck disable=SC2086 # the words are wanted
	guest cloud "$1" "$2" "vmtest=net_hibernate vmtest_devices=5 vmtest_rounds=$3" --initrd "$disks/initrd" \
		--disk mem=512M,lun=1 $nics
	net_end "$1" 500
	pass "$(lines_like 'vmtest: resumed ') times suspended to a disk and resumed"
}

# net_payload SYNIC: the guest without an operating system is pinged.
scenario_net_payload() {
	net_outside 1
	vmm --kernel "$bin/payload" --append "ping ip=10.9.0.2 packets=1000000" --mem 64M --cpus 1 --synic "$1" \
		--no-ic --no-reboot --net "tap=$tap,mac=$mac_tap" --control "$work/control"
	until_true 30 "no answer to ping" busybox ping -q -c 1 -W 1 10.9.0.2 >/dev/null 2>&1
	netaid pings 10.9.0.2 0 1472 1 whole >"$work/pings" 2>&1 || fail "$(tail -n 1 "$work/pings")"
	send quit
	until_ended 20
	pass "$(tail -n 1 "$work/pings")"
}

# ---- two guests on the switch ----

# second COMMAND...: the same for another machine, whose files are in $work/two.
second() {
	local home=$work work=$work/two
	mkdir -p "$work"
	"$@"
}

start_switch() {
	[ -x "$bin/vmbus-switch" ] || skip "vmbus-switch was not built"
	background switch "$bin/vmbus-switch" serve "$work/switch.socket" --tap $tap --ports 4
	until_true_or 10 "the switch does not start: $(cat "$work/switch")" test -S "$work/switch.socket"
}
until_true_or() {
	local end=$(($(uptime_s) + $1)) text=$2
	shift 2
	until "$@"; do
		[ "$(uptime_s)" -lt $end ] || fail "$text"
		sleep 0.05
	done
}

# What the switch and both machines count.
tell_switch() {
	local at
	"$bin/vmbus-switch" stat "$work/switch.socket" 2>&1 | sed "s/^/$name| switch: /"
	for at in "$work/control" "$work/two/control"; do
		[ ! -S "$at" ] || "$bin/vmbus-vmm" --send "$at" status 2>&1 | grep '^net' | sed "s/^/$name| /"
	done
}

# second_says PATTERN SECONDS: until the second guest says so; what is counted is told meanwhile.
second_says() {
	local end=$(($(uptime_s) + $2)) next=30
	until grep -qaE "$1" "$work/two/console"; do
		grep -qa 'vmtest: FAILED' "$work/two/console" && tell_switch &&
			fail "the second guest: $(sed -n 's/.*vmtest: FAILED //p' "$work/two/console" | head -n 1)"
		[ "$(uptime_s)" -lt $end ] || {
			tell_switch
			fail "no '$1' of the second guest in $2 s"
		}
		[ "$(uptime_s)" -lt $((end - $2 + next)) ] || {
			tell_switch
			next=$((next + 30))
		}
		sleep 0.2
	done
}

# net_switch SYNIC CPUS
scenario_net_switch() {
	local stopped
	[ "$1" != qemu ] || skip "QEMU has no such switch"
	net_outside 1
	start_switch
	net_guest "$1" "$2" first "switch=$work/switch.socket,mac=$mac_tap"
	wait_for 'vmtest: ready' 250
	stopped=$(cat "$work/vmm.pid")
	second net_guest "$1" "$2" second "switch=$work/switch.socket,mac=02:00:00:09:00:04"
	second_says 'vmtest: stop the first' 400
	kill -STOP "$stopped" && touch "$work/stopped"
	second_says 'vmtest: continue the first' 200
	kill -CONT "$stopped" && touch "$work/continued"
	second net_end "$1" 200
	net_end "$1" 60
	tell_switch
	cat "$work/two/console" >>"$work/console"
	pass "$(told_like 'between guests:'), $(told_like 'transfer up' | head -n 1); a stopped guest stops itself only"
}

# ---- figures ----

# net_bench_with LABEL: reads the counters of KVM at the guest's marks.
net_bench_with() {
	local what
	for what in tcp-up tcp-down udp-64; do
		wait_for "vmtest: bench begin $what" 400
		kvm_counts >"$work/before"
		wait_for "vmtest: bench end $what" 400
		kvm_counts >"$work/after"
		told_like "bench end $what" >"$work/told"
		awk -F'[: ]' -v label="$1 $what" '
			FILENAME ~ /told$/ { packets = $5; interrupts = $7; rate = $9 " " $10; next }
			FILENAME ~ /before$/ { before[$1] = $2; next }
			$1 == "exits" { exits = $2 - before[$1]; next }
			$1 == "irq_exits" { own += $2 - before[$1] }
			$2 != before[$1] { others = others sprintf(", %s %.3f", $1, ($2 - before[$1]) / packets) }
			END {
				# The outer machine has interrupts of its own meanwhile: irq_exits.
				printf "%s: exits/packet %.3f (%.3f without irq_exits), interrupts/packet %.3f, %d packets, %s\n",
					label, exits / packets, (exits - own) / packets, interrupts / packets, packets, rate
				print label " for each packet: " substr(others, 3) >"/dev/stderr"
			}' "$work/told" "$work/before" "$work/after" >>"$work/figures" 2>>"$work/kinds"
		tail -n 1 "$work/figures" | sed "s/^/$name| /"
	done
	net_end "$1" 60
	cat "$work/console" >>"$work/all"
}

# net_bench CPUS: the same kernel and programs on the same TAP, ours both ways, and QEMU's virtio-net.
scenario_net_bench() {
	local way
	[ -x "$bin/qemu-system-x86_64" ] || skip "QEMU is not here"
	: >"$work/all"
	: >"$work/figures"
	: >"$work/kinds"
	net_outside 1
	for way in ${2:-kernel user qemu vhost}; do
		case $way in
		vhost) net_guest qemu "$1" bench "tap=$tap,mac=$mac_tap,vhost=on" ;;
		*) net_guest "$way" "$1" bench "tap=$tap,mac=$mac_tap" ;;
		esac
		net_bench_with "$way"
		sleep 1
	done
	cp "$work/all" "$work/console"
	sed "s/^/$name| /" "$work/kinds"
	pass "$(tr '\n' ';' <"$work/figures")"
}

# ---- the agent: what a guest asks for ----

agent_nothing() { :; }
agent_mtu() {
	ip link set $tap mtu "$1" || return 1
	[ "$1" -lt 1280 ] || ip -6 address replace fd09::1/64 dev $tap nodad
}
agent_pings() { netaid pings "$@"; }
agent_packets() { netaid packets "$@"; }
agent_flows() { netaid flows "$@"; }
agent_vlan() {
	ip link add link $tap name vmtest1 type vlan id 5 &&
		ip address add 10.5.0.1/24 dev vmtest1 && ip link set vmtest1 up &&
		ip link add link $tap name vmtest2 type vlan proto 802.1ad id 6 &&
		ip address add 10.6.0.1/24 dev vmtest2 && ip link set vmtest2 mtu 1496 && ip link set vmtest2 up
}
# Frames with the tag and its priority, as they are at the TAP.
agent_tags_begin() {
	[ -x "$bin/tcpdump" ] || return 0
	background tags "$bin/tcpdump" -Z root -lnei $tap vlan
	sleep 1
}
agent_tags_end() {
	[ -x "$bin/tcpdump" ] || { echo "tags: 1 of vlan 5, not looked at" && return 0; }
	kill "$(cat "$work/tags.pid")" 2>/dev/null
	sleep 0.5
	echo "tags: $(grep -c 'vlan 5,' "$work/tags") of vlan 5, $(grep -c 'vlan 5, p 3' "$work/tags") with priority 3"
	[ "$(grep -c 'vlan 5, p 3' "$work/tags")" -ge 100 ]
}
agent_forget() { ip neigh flush dev $tap; }
agent_neighbour() { ip neigh show "$1"; }
agent_flood_begin() { background flood "$bin/ping" -q -i 0.002 10.9.0.2; }
agent_flood_end() { kill -INT "$(cat "$work/flood.pid")"; }
agent_enough() { [ -e "$work/enough" ]; }
agent_now_enough() { touch "$work/enough"; }
agent_stopped() { [ -e "$work/stopped" ]; }
agent_continued() { [ -e "$work/continued" ]; }
agent_file_make() {
	dd if=/dev/urandom of="$disks/file" bs=1M count="$1" 2>/dev/null || return 1
	echo "sha256 $(sha256sum <"$disks/file" | cut -d' ' -f1)"
	# shellcheck disable=SC2016 # expands in the inner shell
	background file sh -c 'busybox nc -l -p 7004 <"$0"' "$disks/file"
	sleep 0.5
}
agent_counters() {
	ip -s link show $tap
	grep '^Udp:' /proc/net/snmp
	[ ! -S "$work/control" ] || "$bin/vmbus-vmm" --send "$work/control" status
	return 0
}
# Datagrams and frames that were dropped outside: by sockets, at the TAP, in the NIC.
agent_drops() {
	local at=/sys/class/net/$tap/statistics udp softnet
	udp=$(awk '/^Udp:/ && n++ { print $4 + $7 }' /proc/net/snmp)
	softnet=$(($(awk '{ printf "0x%s + ", $2 }' /proc/net/softnet_stat) 0))
	echo "drops $((udp + softnet + $(cat $at/rx_dropped) + $(cat $at/tx_dropped) + $(nic_drops)))"
}
nic_drops() {
	[ -S "$work/control" ] || { echo 0 && return; }
	"$bin/vmbus-vmm" --send "$work/control" status 2>/dev/null | tr ' ' '\n' | awk -F= '
		/^(no_room|too_long|filtered|stopped|bad|port_sent_dropped|port_received_dropped)=/ { n += $2 }
		END { print n + 0 }'
}

# agent_run: reads a line, does it, tells its status.
agent_run() {
	local word
	read -r word words
	case $word in
	nothing | mtu | pings | packets | flows | vlan | tags_begin | tags_end | forget | neighbour | flood_begin | \
		flood_end | enough | now_enough | stopped | continued | file_make | counters | drops)
		# shellcheck disable=SC2086 # the words are wanted
		agent_$word $words
		echo "status $?"
		;;
	*) echo "status 98" ;;
	esac
}
