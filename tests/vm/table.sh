# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# For vm: the scenarios.  A line of the table is "GROUPS NAME SECONDS FUNCTION ARGUMENT...": the
# functions and their arguments are those of outer/scenarios.sh.

ways=(kernel user)

table() {
	local flavour way cpus
	for way in "${ways[@]}"; do
		for flavour in cloud full rt; do
			for cpus in 1 2 4; do
				case $flavour-$way-$cpus in
				cloud-kernel-2) echo "check,full boot-cloud-$way-2 260 scenario_boot cloud $way 2 shutdown" ;;
				cloud-user-2) echo "check,full boot-cloud-$way-2 260 scenario_boot cloud $way 2 interrupt" ;;
				*) echo "full boot-$flavour-$way-$cpus 260 scenario_boot $flavour $way $cpus poweroff" ;;
				esac
			done
		done
	done
	for way in "${ways[@]}"; do
		echo "full versions-$way 360 scenario_versions cloud $way"
		echo "full reload-$way 480 scenario_reload cloud $way 2 20"
		echo "full cpus-$way 360 scenario_cpus cloud $way 4"
		echo "full hotplug-$way 400 scenario_hotplug cloud $way"
		echo "full reboot-$way 600 scenario_reboot cloud $way 2"
		echo "full kexec-$way 400 scenario_kexec cloud $way 2"
		echo "full crash-$way 300 scenario_crash cloud $way"
		echo "full clock-$way 400 scenario_clock cloud $way 60"
		echo "full hang-$way 400 scenario_hang rt $way"
		echo "full uio-$way 600 scenario_uio cloud $way 2 1000000"
		echo "full gone-$way 500 scenario_gone cloud $way"
		echo "check,full payload-$way 180 scenario_payload $way echo packets=100000 window=64 payload=64"
		echo "full save-$way 240 scenario_save $way 10 2000000"
		echo "check,full provider-$way 180 scenario_provider $way 5 200000"
		echo "full provider-50-$way 420 scenario_provider $way 50 1000000"
		echo "full payload-halts-$way 240 scenario_payload $way echo packets=60000 window=1 payload=64"
		echo "full payload-poll-$way 180 scenario_payload $way echo packets=100000 window=64 payload=64 poll"
		echo "full payload-flood-$way 180 scenario_payload $way flood seconds=60"
	done
	for way in "${ways[@]}"; do
		for cpus in 1 4; do
			case $way-$cpus in
			kernel-4) echo "check,full disk-root-$way-$cpus 400 scenario_disk_root cloud $way $cpus shutdown" ;;
			*) echo "full disk-root-$way-$cpus 400 scenario_disk_root cloud $way $cpus poweroff" ;;
			esac
			echo "full disk-fio-$way-$cpus 1000 scenario_disk_fio cloud $way $cpus 16 file"
		done
		echo "full disk-root-full-$way 400 scenario_disk_root full $way 2 poweroff"
		echo "full disk-root-rt-$way 400 scenario_disk_root rt $way 2 poweroff"
		echo "full disk-fio-4096-$way 1000 scenario_disk_fio cloud $way 2 8 file,sector=4096"
		echo "full disk-cut-$way 900 scenario_disk_cut $way 2"
		echo "full disk-cut-files-$way 900 scenario_disk_cut_files $way 2"
		echo "full disk-trim-$way 400 scenario_disk_trim $way 2"
		echo "full disk-resize-$way 500 scenario_disk_resize $way 2"
		echo "full disk-hot-$way 700 scenario_disk_hot $way 4 5"
		echo "full disk-errors-$way 400 scenario_disk_errors $way 2"
		echo "full disk-stall-$way 400 scenario_disk_stall $way 2"
		echo "full disk-reload-$way 600 scenario_disk_reload $way 4 10"
		echo "full disk-tools-$way 400 scenario_disk_tools $way 2"
		echo "full disk-conformance-$way 800 scenario_disk_conformance $way 2"
		echo "full disk-kill-$way 1500 scenario_disk_kill $way 2 200"
		echo "full disk-save-$way 900 scenario_disk_save $way 2 5"
		echo "full disk-upgrade-$way 600 scenario_disk_upgrade $way 2 50"
	done
	net_table
	echo "full demo 300 scenario_demo kernel"
	echo "full disk-bench 900 scenario_disk_bench 1 16"
	echo "full bench 600 scenario_bench"
	echo "full messages 120 scenario_messages"
	echo "check,full nokvm 60 scenario_nokvm"
}

net_table() {
	local way cpus
	for way in "${ways[@]}"; do
		for cpus in 1 4; do
			echo "full net-user-$way-$cpus 400 scenario_net_user $way $cpus"
			echo "full net-ping-$way-$cpus 600 scenario_net_ping $way $cpus $cpus"
			echo "full net-offloads-$way-$cpus 1600 scenario_net_offloads $way $cpus $cpus 1"
			echo "full net-packets-$way-$cpus 2400 scenario_net_packets $way $cpus $cpus 500000"
		done
		case $way in
		kernel) echo "check,full net-short-$way 400 scenario_net_short $way 2" ;;
		*) echo "full net-short-$way 400 scenario_net_short $way 2" ;;
		esac
		# A TAP with one queue and a guest with four channels: the NIC spreads the frames itself.
		echo "full net-rss-$way 1600 scenario_net_offloads $way 4 1 1"
		echo "full net-file-$way 900 scenario_net_file $way 2 2 1024"
		echo "full net-mtu-$way 600 scenario_net_mtu $way 2 2"
		echo "full net-vlan-$way 400 scenario_net_vlan $way 2 2"
		echo "full net-ethtool-$way 500 scenario_net_ethtool $way 4 4"
		echo "full net-link-$way 400 scenario_net_link $way 2"
		echo "full net-mac-$way 300 scenario_net_mac $way 2 2"
		echo "full net-reload-$way 600 scenario_net_reload $way 4 4 10"
		echo "full net-order-$way 500 scenario_net_order $way 4 4"
		echo "full net-switch-$way 800 scenario_net_switch $way 2"
		echo "full net-save-$way 900 scenario_net_save $way 2 5"
		echo "full net-hibernate-$way 600 scenario_net_hibernate $way 2 2"
		echo "full net-payload-$way 200 scenario_net_payload $way"
	done
	# By hand, to see whether a scenario asks for what any NIC gives.
	for cpus in 1 4; do
		echo "oracle net-user-qemu-$cpus 400 scenario_net_user qemu $cpus"
		echo "oracle net-ping-qemu-$cpus 600 scenario_net_ping qemu $cpus $cpus"
		echo "oracle net-offloads-qemu-$cpus 1600 scenario_net_offloads qemu $cpus $cpus 1"
		echo "oracle net-packets-qemu-$cpus 1600 scenario_net_packets qemu $cpus $cpus 100000"
	done
	echo "oracle net-short-qemu 400 scenario_net_short qemu 2"
	echo "oracle net-file-qemu 900 scenario_net_file qemu 2 2 64"
	echo "oracle net-mtu-qemu 600 scenario_net_mtu qemu 2 2"
	echo "oracle net-vlan-qemu 400 scenario_net_vlan qemu 2 2"
	echo "oracle net-order-qemu 500 scenario_net_order qemu 4 4"
	echo "full net-bench 900 scenario_net_bench 1"
	echo "oracle net-bench-qemu 900 scenario_net_bench 1 qemu"
}

names_of() { table | grep -E "^([a-z]+,)*$1(,[a-z]+)* " | cut -d' ' -f2; }
line_of() { table | sed 's/^[a-z,]* //' | grep "^$1 "; }
