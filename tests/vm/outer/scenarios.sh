# SPDX-License-Identifier: MIT
# shellcheck shell=sh
#
# The scenarios, for drive: each is a function in a subshell of its own that starts the VMM, plays the
# part of its user, and ends by pass or fail.  $bin, $dir and $work are drive's.

# The end of a scenario, also from a command substitution: its status says that there is a verdict.
verdict() {
	echo "$*" >"${home:-$work}/verdict"
	exit 1
}
pass() { verdict pass "$@"; }
fail() { verdict fail "$@"; }
skip() { verdict skip "$@"; }

cr=$(printf '\r')

# What the VMM writes goes to the log and, with its scenario's name, to the console.  A line in which
# the guest tells its time gets ours.
relay() {
	local line
	while IFS= read -r line; do
		line=${line%"$cr"}
		case $line in
		*"vmtest: now "*) echo "${line#*vmtest: now }" "$("$bin/aid" now)" >>"$work/clocks" ;;
		esac
		printf '%s\n' "$line" >>"$work/console"
		printf '%s| %s\n' "$name" "$line"
	done
}

# vmm ARGUMENT...: starts it in the background; $work/status is there when it has ended.
vmm() {
	: >"$work/console"
	rm -f "$work/status"
	{
		# shellcheck disable=SC2016 # expands in the inner shell
		sh -c 'echo $$ >"$0"; exec "$@"' "$work/vmm.pid" "$bin/vmbus-vmm" "$@" </dev/null 2>&1
		echo $? >"$work/status"
		rm -f "$work/vmm.pid"
	} | relay &
}

# guest FLAVOUR SYNIC CPUS APPEND ARGUMENT...: a Debian guest with the echo device.
guest() {
	local flavour=$1 synic=$2 cpus=$3 append=$4
	shift 4
	[ -r "$dir/kernels/$flavour/vmlinuz" ] || skip "kernel $flavour is not here"
	vmm --kernel "$dir/kernels/$flavour/vmlinuz" --initrd "$dir/kernels/$flavour/initrd" \
		--append "console=ttyS0 loglevel=5 panic=-1 $append $(cat "$dir/append" 2>/dev/null)" --mem 384M --cpus "$cpus" --synic "$synic" \
		--control "$work/control" --socket "$work/socket" --report "$work/report.json" \
		"$@"
}
send() {
	"$bin/vmbus-vmm" --send "$work/control" "$1" >"$work/answer" 2>&1 ||
		fail "control '$1': $(cat "$work/answer")"
}

# Time is the uptime here: the clock may be what is tested.  In the seconds of who is patient.
uptime_s() { echo $(($(cut -d. -f1 /proc/uptime) / patience)); }

lines_like() { grep -acE "$1" "$work/console"; }

# wait_for PATTERN SECONDS [TIMES]: until the console has such a line.
wait_for() {
	local end=$(($(uptime_s) + $2))
	until [ "$(lines_like "$1")" -ge "${3:-1}" ]; do
		grep -qa 'vmtest: FAILED' "$work/console" &&
			fail "guest: $(sed -n 's/.*vmtest: FAILED //p' "$work/console" | head -n 1)"
		[ ! -s "$work/status" ] ||
			[ "$(lines_like "$1")" -ge "${3:-1}" ] ||
			fail "the VMM ended with status $(cat "$work/status") before '$1'"
		[ "$(uptime_s)" -lt $end ] || fail "no '$1' in $2 s"
		sleep 0.1
	done
}

# ended SECONDS STATUS: the VMM ends by itself, and says so by its status.
ended() {
	local end=$(($(uptime_s) + $1)) status
	until [ -s "$work/status" ]; do
		[ "$(uptime_s)" -lt $end ] || fail "the VMM has not ended after $1 s"
		sleep 0.1
	done
	status=$(cat "$work/status")
	grep -qa 'vmtest: FAILED' "$work/console" &&
		fail "guest: $(sed -n 's/.*vmtest: FAILED //p' "$work/console" | head -n 1)"
	[ "$status" = "$2" ] || fail "the VMM ended with status $status, not $2"
}

seen() { [ "$(lines_like "$1")" -ge 1 ] || fail "no line '$1' on the console"; }
unseen() {
	[ "$(lines_like "$1")" = 0 ] || fail "on the console: $(grep -aE "$1" "$work/console" | head -n 1)"
}
healthy() { unseen 'WARNING:|BUG:|Oops|Call Trace|rcu.*stall|soft lockup|hv_vmbus: .*(fail|error)'; }

# field KEY: of the report; the first of that name.
field() { tr ',{}' '\n\n\n' <"$work/report.json" | sed -n "s/^[[:space:]]*\"$1\": *//p" | tr -d '"' | head -n 1; }
report_says() {
	[ -s "$work/report.json" ] || fail "the VMM wrote no report"
	[ "$(field "$1")" = "$2" ] || fail "the report says $1 $(field "$1"), not $2"
}

# What the guest told is within a second of our time when we read it; before the component for it is
# there, what the CMOS told is within ten.  Of what it told at one moment the best is taken.
clocks_agree() {
	[ -s "$work/clocks" ] || fail "the guest told no time"
	clock_worst=$(awk '
		{
			off = ($NF - $1) / 1000000
			$1 = $NF = ""
			if (off < 0) off = -off
			if (!($0 in best) || off < best[$0]) best[$0] = off
		}
		END {
			for (when in best) {
				early = when ~ /at boot/
				if (best[when] > (early ? 10000 : 1000)) {
					printf "%d ms off%s", best[when], when
					exit 1
				}
				if (!early && best[when] > worst) worst = best[when]
			}
			printf "%d", worst
		}' "$work/clocks") || fail "the guest's clock is $clock_worst"
}

# Boot time and memory, for whoever reads the result.
figures() {
	local boot overhead
	boot=$(field boot_ns)
	overhead=$(field overhead_bytes)
	[ "${overhead:-0}" -gt 0 ] || fail "the report has no overhead_bytes"
	[ "$overhead" -lt 8388608 ] || fail "memory beside the guest's: $overhead bytes, 8 MiB is the limit"
	echo "boot $((boot / 1000000)) ms, overhead $((overhead / 1024)) KiB"
}

class_shutdown=0e0b6031-5213-4934-818b-38d90ced39db
class_timesync=9527e630-d0ae-497b-adce-e80ab0175caf
class_heartbeat=57164f39-9115-4e78-ab55-382f3bd5422d
class_echo=f2a3b1c4-5d6e-4f70-8192-a3b4c5d6e7f8
offers_are_right() {
	seen "lsvmbus: relid [0-9]+ class $class_shutdown shutdown .*driver hv_ut"
	seen "lsvmbus: relid [0-9]+ class $class_timesync timesync .*driver hv_ut"
	seen "lsvmbus: relid [0-9]+ class $class_heartbeat heartbeat .*driver hv_ut"
	seen "lsvmbus: relid [0-9]+ class $class_echo echo .*driver -"
}

# boot FLAVOUR SYNIC CPUS END: END is poweroff, by the guest itself; shutdown, which we ask for by the
# control socket; or interrupt, ctrl-C.
scenario_boot() {
	local said
	guest "$1" "$2" "$3" "vmtest=boot vmtest_end=$4" --device echo
	wait_for 'vmtest: up$' 200
	case $4 in
	shutdown)
		"$bin/vmbusctl" list -s "$work/socket" >"$work/listing" 2>&1 ||
			fail "vmbusctl: $(cat "$work/listing")"
		grep -qi "$class_echo" "$work/listing" || grep -qiw echo "$work/listing" ||
			fail "vmbusctl list shows no echo device: $(head -n 5 "$work/listing" | tr '\n' ';')"
		sed "s/^/$name| vmbusctl: /" "$work/listing"
		send shutdown
		wait_for 'vmtest: shutdown asked' 20
		;;
	interrupt)
		kill -INT "$(cat "$work/vmm.pid")"
		wait_for 'vmtest: shutdown asked' 20
		;;
	esac
	ended 20 0
	seen 'Hypervisor detected: Microsoft Hyper-V'
	seen "vmtest: kernel 6.* cpus $3 version 5.3 devices 4"
	offers_are_right
	healthy
	clocks_agree
	report_says synic "$2"
	report_says end poweroff
	said=$(figures) || exit
	pass "$said, clock $clock_worst ms off"
}

# demo SYNIC: a disk and a network.
scenario_demo() {
	guest cloud "$1" 2 "vmtest=demo vmtest_devices=5" --disk mem=64M --net user
	wait_for 'vmtest: ok' 250
	ended 20 0
	seen 'dhcp: .*lease of 10.0.2.15 obtained'
	seen 'ping: 3 packets transmitted, 3 packets received'
	healthy
	pass "a disk, a network with an address, and ping"
}

# versions FLAVOUR SYNIC
scenario_versions() {
	local v
	guest "$1" "$2" 1 vmtest=versions --device echo
	wait_for 'vmtest: ok' 300
	ended 20 0
	for v in 2.4 3.0 4.0 4.1 5.0 5.1 5.2 5.3; do seen "vmtest: asked $v got $v devices 4"; done
	healthy
	pass "2.4 3.0 4.0 4.1 5.0 5.1 5.2 5.3"
}

# reload FLAVOUR SYNIC CPUS ROUNDS
scenario_reload() {
	guest "$1" "$2" "$3" "vmtest=reload vmtest_rounds=$4" --device echo
	wait_for 'vmtest: ok' $((200 + $4 * 10))
	ended 20 0
	seen "vmtest: round $4"
	healthy
	pass "$4 times"
}

# cpus FLAVOUR SYNIC CPUS
scenario_cpus() {
	guest "$1" "$2" "$3" "vmtest=cpus vmtest_packets=100000" --device echo,monitor=2000
	wait_for 'vmtest: ok' 280
	ended 20 0
	healthy
	seen 'vmtest: echo moved [0-9]+ times'
	pass "$(lines_like 'vmtest: cpu') moves of the heartbeat's, $(sed -n 's/.*vmtest: echo moved \([0-9]*\) .*/\1/p' "$work/console") of the busy echo channel"
}

# hotplug FLAVOUR SYNIC
scenario_hotplug() {
	local round relid
	guest "$1" "$2" 2 vmtest=hotplug --device echo
	for round in 1 2 3; do
		wait_for "vmtest: add $round" 200
		send "add echo"
		wait_for "vmtest: new" 30 $round
		relid=$(sed -n 's/.*vmtest: new //p' "$work/console" | tail -n 1)
		send "remove $relid"
		wait_for "vmtest: gone $round" 30
	done
	ended 20 0
	healthy
	pass "3 devices added and rescinded"
}

# reboot FLAVOUR SYNIC CPUS: the guest starts anew three times, then is shut down.
scenario_reboot() {
	guest "$1" "$2" "$3" vmtest=reboot --device echo
	wait_for 'vmtest: up$' 560 4
	send shutdown
	wait_for 'vmtest: shutdown asked' 20
	ended 20 0
	[ "$(lines_like 'vmtest: kernel .* version 5.3 devices 4')" = 4 ] || fail "not the same offers each time"
	healthy
	pass "3 resets"
}

# kexec FLAVOUR SYNIC CPUS: another kernel is started by the first, without a reset.
scenario_kexec() {
	guest "$1" "$2" "$3" vmtest=kexec --device echo --initrd "$dir/kernels/$1/initrd-kexec"
	wait_for 'vmtest: second version 5.3 devices 4' 300
	ended 30 0
	seen 'vmtest: first version 5.3 devices 4'
	seen 'vmtest: kexec loaded'
	[ "$(lines_like 'Hypervisor detected: Microsoft Hyper-V')" = 2 ] || fail "the second kernel did not start"
	healthy
	pass "kexec_file_load, unload, negotiated again"
}

# crash FLAVOUR SYNIC: the VMM tells of it, with the text that the guest sent.
scenario_crash() {
	guest "$1" "$2" 1 vmtest=crash --device echo
	wait_for 'vmtest: up$' 200
	ended 60 "$crash_status"
	report_says end crash
	seen 'vmbus-vmm: .*crash'
	grep -a 'vmbus-vmm: ' "$work/console" | grep -aqi 'sysrq triggered crash' ||
		fail "the VMM's message lacks the guest's text"
	pass "status $crash_status, with text"
}
crash_status=3

# clock FLAVOUR SYNIC SECONDS
scenario_clock() {
	guest "$1" "$2" 2 "vmtest=clock vmtest_seconds=$3" --device echo
	wait_for 'vmtest: ok' $(($3 + 250))
	ended 20 0
	seen 'vmtest: wrong 10000000'
	clocks_agree
	healthy
	pass "$(($(wc -l <"$work/clocks") / 3)) times within $clock_worst ms"
}

# hang FLAVOUR SYNIC: interrupts are off for 16 s.
scenario_hang() {
	guest "$1" "$2" 1 vmtest=hang --device echo
	wait_for 'vmtest: hang' 250
	wait_for 'vmbus-vmm: .*heartbeat.*(lost|missing|not answer|no answer)' 40
	wait_for 'vmbus-vmm: .*heartbeat.*(again|back|alive)' 40
	send shutdown
	wait_for 'vmtest: shutdown asked' 60
	ended 30 0
	pass "loss and return reported"
}

# payload SYNIC OPTION...: the guest without an operating system.
scenario_payload() {
	local synic=$1
	shift
	vmm --kernel "$bin/payload" --append "$*" --mem 64M --cpus 1 --synic "$synic" --device echo \
		--control "$work/control" --report "$work/report.json"
	wait_for 'payload: (ok|FAILED)' 170
	ended 20 0
	unseen 'payload: FAILED'
	seen 'payload: ok'
	report_says synic "$synic"
	report_says end poweroff
	pass "$(grep -a '^payload: [a-z_]* ' "$work/console" | sed 's/^payload: //' | tr '\n' ',' | cut -c1-100)"
}

# until_true SECONDS TEXT COMMAND...: tried again until it succeeds.
until_true() {
	local end=$(($(uptime_s) + $1)) text=$2
	shift 2
	until "$@"; do
		if [ -s "$work/status" ]; then
			"$@" && return # it came true, and the VMM ended, after we had looked
			fail "the VMM ended with status $(cat "$work/status"): $text"
		fi
		[ "$(uptime_s)" -lt $end ] || fail "$text"
		sleep 0.02
	done
}

status_of() { "$bin/vmbus-vmm" --send "$work/control" status >"$work/answer" 2>&1; }

# save SYNIC ROUNDS PACKETS: the payload is saved in the middle of a transfer, and runs on in another
# process, so many times.
scenario_save() {
	local synic=$1 rounds=$2 packets=$3 n=0
	: >"$work/all"
	vmm --kernel "$bin/payload" --append "echo packets=$packets window=64 payload=64,1024" --mem 64M \
		--cpus 1 --synic "$synic" --no-ic --no-reboot --device echo --control "$work/control"
	while [ $n -lt "$rounds" ]; do
		until_true 30 "no answer: $(cat "$work/answer" 2>/dev/null)" status_of
		sleep "0.$((n * 7 % 9 + 1))"
		send "save $work/saved"
		ended 20 9
		sleep 0.2 # what it said last is on its way
		cat "$work/console" >>"$work/all"
		n=$((n + 1))
		vmm --restore "$work/saved" --synic "$synic" --no-reboot --control "$work/control"
	done
	wait_for 'payload: (ok|FAILED)' 170
	ended 20 0
	cat "$work/console" >>"$work/all"
	cp "$work/all" "$work/console"
	unseen 'payload: FAILED'
	seen 'payload: ok'
	[ "$(lines_like '^payload: series ')" = 2 ] || fail "not 2 series"
	pass "saved $n times in $packets packets of 64 and 1024 bytes"
}

# What the VMM tells of its provider: the value of a word.
told() { sed -n "s/^provider .* $1=\([0-9]*\).*/\1/p" "$work/answer" | head -n 1; }
provider_open() { status_of && [ "$(told channels)" = 1 ]; }
# provider_back DEATHS
provider_back() { status_of && [ "$(told present)" = 1 ] && [ "$(told deaths)" = "$1" ] && [ "$(told pause_ns)" -gt 0 ]; }

start_provider() {
	# shellcheck disable=SC2016 # expands in the inner shell
	sh -c 'echo $$ >"$0"; exec "$@"' "$work/provider.pid" "$bin/vmbus-provider" echo -s "$work/device" \
		>>"$work/provider" 2>&1 </dev/null &
	until_true 10 "the provider does not start: $(cat "$work/provider")" test -s "$work/provider.pid"
}

# provider SYNIC KILLS PACKETS: the echo device is a process, which is killed under load so many times;
# the payload compares every byte that comes back.
scenario_provider() {
	local synic=$1 kills=$2 packets=$3 n=0
	[ -x "$bin/vmbus-provider" ] || skip "vmbus-provider was not built"
	: >"$work/pauses"
	vmm --kernel "$bin/payload" --append "echo wait packets=$packets window=16 payload=64,512" --mem 64M \
		--cpus 1 --synic "$synic" --no-ic --no-reboot --device "provider=$work/device" \
		--control "$work/control" --socket "$work/socket"
	until_true 30 "the VMM does not answer" status_of
	start_provider
	until_true 30 "the channel was not opened: $(cat "$work/provider")" provider_open
	while [ $n -lt "$kills" ]; do
		sleep "0.0$((n * 7 % 9 + 1))"
		kill -KILL "$(cat "$work/provider.pid")" || fail "the provider ended: $(tail -n 1 "$work/provider")"
		rm -f "$work/provider.pid"
		n=$((n + 1))
		start_provider
		until_true 20 "no provider is back after kill $n: $(cat "$work/answer" "$work/provider")" provider_back $n
		told pause_ns >>"$work/pauses"
	done
	until_true 250 "the guest does not come to its end" guest_through
	ended 20 0
	unseen 'payload: FAILED'
	seen 'payload: ok'
	[ "$(lines_like '^payload: series ')" = 2 ] || fail "not 2 series"
	pass "$n kills in $packets packets of 64 and 512 bytes, pause $(sort -n "$work/pauses" | awk '
		{ p[NR] = $1 }
		END { printf "median %.1f ms, longest %.1f ms", p[int((NR + 1) / 2)] / 1e6, p[NR] / 1e6 }')"
}

# Whether the payload is through; every 30 s that it is not, doctor says why.
guest_through() {
	[ -s "$work/status" ] || [ "$(lines_like 'payload: (ok|FAILED)')" -ge 1 ] && return 0
	if [ "$(uptime_s)" -ge $((${doctor_at:-0} + 30)) ]; then
		doctor_at=$(uptime_s)
		"$bin/vmbusctl" doctor -s "$work/socket" 2>&1 | relay
	fi
	return 1
}

# uio FLAVOUR SYNIC CPUS PACKETS
scenario_uio() {
	guest "$1" "$2" "$3" "vmtest=uio vmtest_packets=$4" --device echo,monitor=2000
	wait_for 'vmtest: (ok|FAILED)' 500
	ended 20 0
	healthy
	pass "$4 packets"
}

# gone FLAVOUR SYNIC: the device is rescinded while a program has it open through uio.
scenario_gone() {
	guest "$1" "$2" 2 vmtest=gone --device echo,monitor=2000
	wait_for 'vmtest: remove' 250
	send "remove $(sed -n 's/.*vmtest: remove //p' "$work/console" | head -n 1)"
	wait_for 'vmtest: the program ended' 60
	wait_for 'vmtest: add' 60
	send "add echo,monitor=2000"
	wait_for 'vmtest: ok' 100
	ended 20 0
	healthy
	pass "$(sed -n 's/.*vmtest: the program ended with //p' "$work/console" | cut -c1-100)"
}

# bench: exits and interrupts for each packet, both ways; the file is the benchmark's own.
scenario_bench() {
	[ -x "$bin/vmbus-bench" ] || skip "vmbus-bench was not built"
	"$bin/vmbus-bench" kvm --vmm "$bin/vmbus-vmm" --guest "$bin/payload" --runs 1 \
		--json "$work/bench.json" 2>&1 </dev/null | relay
	[ -s "$work/bench.json" ] || fail "no results"
	! grep -aqi 'missed\|failed' "$work/console" || fail "$(grep -ai 'missed\|failed' "$work/console" | head -n 1)"
	pass "build/vm/logs/$name/report.json"
}

# nokvm: no /dev/kvm, or one behind which nothing is; the message must say what to do.
scenario_nokvm() {
	vmm --kernel "$dir/kernels/cloud/vmlinuz" --mem 256M
	ended 20 1
	seen 'vmbus-vmm: .*/dev/kvm'
	pass "$(grep -a 'vmbus-vmm: ' "$work/console" | head -n 1 | cut -c1-120)"
}

# messages: a kernel that is none, too little memory: what the user reads.
scenario_messages() {
	local what
	echo "no kernel" >"$work/text"
	for what in "--kernel $work/text" "--kernel $work/nothing" \
		"--kernel $dir/kernels/cloud/vmlinuz --mem 8M" \
		"--kernel $dir/kernels/cloud/vmlinuz --initrd $work/nothing" \
		"--kernel $dir/kernels/cloud/vmlinuz --cpus 0" "--nonsense"; do
		# shellcheck disable=SC2086 # the words are wanted
		vmm $what
		ended 20 "$(case $what in --nonsense | *"--cpus 0") echo 2 ;; *) echo 1 ;; esac)"
		seen 'vmbus-vmm: '
	done
	pass "6 messages"
}
