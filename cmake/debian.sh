# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# For ./run and ./check: what they need on Debian 12, why, and how it gets there.

# Prints "package reason", one a line, for what the caller wants: build, package, peers, report,
# tests or vm.
packages_for() {
	case $1 in
	build) cat <<-'END' ;;
		cmake configures the build
		ninja-build runs the build
		gcc compiles the library
		libc6-dev headers of the C library
		pkg-config finds libraries
		libnuma-dev places ring memory on a NUMA node
		liburcu-dev tables that threads read without a lock, queue of posted messages
		libseccomp-dev filters the system calls of vmbus-vmm
		liburing-dev block store in files and on block devices
		libnbd-dev block store behind an NBD server
		libslirp-dev network port without a privilege
		systemtap-sdt-dev static probes for perf and bpftrace
	END
	peers) cat <<-'END' ;;
		libck-dev peer of the benchmark: ring of Concurrency Kit
		libqb-dev peer of the benchmark: ring buffer of libqb
		libdpdk-dev peer of the benchmark: rte_ring
		dpdk-dev peer of the benchmark: memif, virtio-user and vhost-user of its testpmd
		nbdkit peer of the benchmark: memory behind a socket
		qemu-system-common peer of the benchmark: vhost-user-blk of its storage daemon
	END
	tests) cat <<-'END' ;;
		check unit tests
		nbdkit servers for the tests of the NBD store
		qemu-utils servers for the tests of the NBD store
		nbdkit-plugin-dev exports disks of a parent by nbdkit
		libnbd-bin copies disks by NBD
		fio loads disks and verifies what it reads
		tcpdump reads what the capture port writes
		tshark reads it too, packet by packet
		iproute2 interfaces for the tests of network ports
		g++ C++ users of the headers
		python3 checks of the tree, models, budget
		clang-14 second compiler, sanitizers, fuzzing
		libclang-rt-14-dev run-time parts of clang's sanitizers and of libFuzzer
		clang-format-14 layout of the code
		mandoc lint of the manual pages
		acpica-tools disassembles the ACPI tables of vmbus-vmm
		abigail-tools comparison of the binary interface
		valgrind instruction budget (callgrind), memcheck of the suites
		gcovr lines and branches that the suites run
		spin models of the sleep handshakes
		frama-c-base proofs on the C code
		why3 hands proof goals to the prover
		z3 prover
		gcc-aarch64-linux-gnu cross-compiler for arm64
		libc6-dev-arm64-cross C library for arm64
		qemu-user runs the arm64 suites
	END
	package) cat <<-'END' ;;
		dpkg-dev builds Debian packages
		debhelper steps of building them
		lintian judges them
	END
	report) cat <<-'END' ;;
		python3 writes the page of the report
	END
	vm) cat <<-'END' ;;
		qemu-system-x86 emulates a machine with virtualisation, in which guests boot
		busybox-static the programs in the guest, and in the emulated machine
		cpio packs their file systems
		e2fsprogs makes and checks file systems of guests' disks
		sg3-utils SCSI commands in guests
		libiscsi-bin its conformance suite of SCSI disks
		iperf3 load of guests' networks
		ethtool offloads and channels of guests' interfaces
		iproute2 interfaces and addresses, in guests and outside
		iputils-ping floods of echoes
		tcpdump frames at the TAP, and in captures
	END
	esac
}

is_debian_12() {
	[ -r /etc/os-release ] || return 1
	# shellcheck disable=SC1091
	(. /etc/os-release && [ "${ID:-}" = debian ] && [ "${VERSION_ID:-}" = 12 ])
}

is_installed() {
	[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# install_packages GROUP...: says what is missing and why, then installs it; exits with 3 if it cannot.
install_packages() {
	local group name reason missing=() list=()
	for group in "$@"; do
		while read -r name reason; do
			list+=("$name")
			[ "${must_not_install:-no}" = no ] || continue
			is_debian_12 && is_installed "$name" && continue
			missing+=("$name")
		done < <(packages_for "$group")
	done
	if [ "${must_not_install:-no}" = yes ]; then
		echo "Nothing is installed (--no-install).  Needed are: ${list[*]}"
		return
	fi
	if ! is_debian_12; then
		cat >&2 <<-END
			This script installs packages on Debian 12 only, and this is another system.
			It needs what these Debian packages bring:
			  ${list[*]}
			Install them in your system's way, then run it again with --no-install.
		END
		exit 3
	fi
	[ ${#missing[@]} -gt 0 ] || return 0

	echo "Installing from Debian:"
	for group in "$@"; do
		while read -r name reason; do
			case " ${missing[*]} " in
			*" $name "*) printf '  %-24s %s\n' "$name" "$reason" ;;
			esac
		done < <(packages_for "$group")
	done
	local as_root=()
	if [ "$(id -u)" != 0 ]; then
		if ! command -v sudo >/dev/null; then
			echo "This needs root, and there is no sudo.  As root: apt-get install ${missing[*]}" >&2
			exit 3
		fi
		as_root=(sudo)
		# Without a terminal nobody can type a password.
		[ -t 0 ] || as_root=(sudo -n)
	fi
	as_root+=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
	mkdir -p build/check
	if ! "${as_root[@]}" update </dev/null >build/check/apt.log 2>&1 ||
		! "${as_root[@]}" install -y --no-install-recommends "${missing[@]}" \
			</dev/null >>build/check/apt.log 2>&1; then
		tail -n 15 build/check/apt.log >&2
		echo "Installing failed.  As root: apt-get update && apt-get install ${missing[*]}" >&2
		exit 3
	fi
	echo "Installed ${#missing[@]} packages."
}

# After sudo, the build folder belongs to the user who called, or the next run without it fails.
give_back() {
	if [ "$(id -u)" = 0 ] && [ -n "${SUDO_UID:-}" ] && [ -d build ]; then
		chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" build
	fi
}
