# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# For vm: fetches Debian's kernels and builds the images.  Everything lies in $out, which is a folder
# of the build tree, and is made again only if it is missing or what it is made of has changed.
# Needs no root: packages are downloaded and unpacked, never installed.

flavours=(cloud full rt)
metapackage() {
	case $1 in
	cloud) echo linux-image-cloud-amd64 ;;
	full) echo linux-image-amd64 ;;
	rt) echo linux-image-rt-amd64 ;;
	esac
}

# Without package lists of the system's own, or with old ones, apt-get gets lists of ours.
apt_options=()
own_lists() {
	local state=$out/apt
	mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
	apt_options=(-o "Dir::State=$state" -o "Dir::State::status=/var/lib/dpkg/status"
		-o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state/cache" -o "APT::Sandbox::User=$(id -un)")
	echo "Fetching Debian's package lists into $state: those of the system have no kernel to download"
	apt-get "${apt_options[@]}" -q update >"$out/apt.log" 2>&1 </dev/null
}

# The package that a metapackage stands for now.
kernel_package() {
	apt-cache "${apt_options[@]}" depends "$1" 2>/dev/null |
		sed -n 's/^  Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1
}

download() {
	local package
	package=$(kernel_package "$1")
	[ -n "$package" ] || return 1
	echo "Downloading $package, a guest for the tests, into $out/debs (27 to 71 MB)"
	(cd "$out/debs" && apt-get "${apt_options[@]}" -q download "$package" >"$out/apt.log" 2>&1 </dev/null)
}

# Those for networks that only the outer machine loads.
outer_modules='tun tap bridge vhost_iotlb vhost vhost_net'

# Modules that the tests load, as patterns of their paths.
wanted_modules() {
	local name
	printf '%s\n' '*/irqbypass.ko' '*/arch/x86/kvm/*.ko' '*/drivers/hv/*.ko' '*/drivers/virtio/virtio*.ko'
	for name in uio uio_hv_generic scsi_common scsi_mod scsi_transport_fc sd_mod sg hv_storvsc virtio_scsi \
		virtio_blk crct10dif_common crct10dif_generic crc-t10dif crc64 crc64_rocksoft_generic \
		crc64-rocksoft t10-pi crc16 mbcache jbd2 crc32c_generic ext4 hv_netvsc virtio_net failover net_failover \
		stp llc garp mrp 8021q $outer_modules; do
		echo "*/$name.ko"
	done
}

# fetch FLAVOUR: its kernel and the modules that the tests load are in $out/kernels/FLAVOUR; unpacked
# again when other modules are wanted.  Without it: $why tells the reason.
fetch() {
	local flavour=$1 target=$out/kernels/$1 before deb
	if [ -r "$target/version" ]; then
		wanted_modules | cmp -s - "$target/wanted" && return 0
		deb=$(find "$out/debs" -name "linux-image-$(cat "$target/version")_*.deb" 2>/dev/null | head -n 1)
		[ -z "$deb" ] || {
			unpack_as "$deb" "$target"
			return
		}
	fi
	for tool in apt-get apt-cache dpkg-deb; do
		command -v $tool >/dev/null || {
			why="$tool is missing: kernels come from Debian's archive"
			return 1
		}
	done
	mkdir -p "$out/debs"
	before=$(mktemp "$out/debs/.before.XXXXXX")
	if ! download "$(metapackage "$flavour")" && ! { own_lists && download "$(metapackage "$flavour")"; }; then
		why="$(metapackage "$flavour") cannot be downloaded: $(grep -aE '^(E|Err|W):' "$out/apt.log" | tail -n 1)"
		rm -f "$before"
		return 1
	fi
	deb=$(find "$out/debs" -name '*.deb' -newer "$before" | head -n 1)
	[ -n "$deb" ] || deb=$(find "$out/debs" -name "$(kernel_package "$(metapackage "$flavour")")_*.deb" | head -n 1)
	rm -f "$before"
	unpack_as "$deb" "$target"
}

unpack_as() {
	rm -rf "$2.new"
	mkdir -p "$2.new"
	unpack "$1" "$2.new" || {
		why="$1 cannot be unpacked"
		return 1
	}
	rm -rf "$2"
	mv "$2.new" "$2"
}

# Only what the tests need: a kernel's modules are 400 MB.
unpack() {
	local deb=$1 to=$2 image
	# Not every kernel has every module: tar complains of those.
	wanted_modules >"$to/wanted"
	dpkg-deb --fsys-tarfile "$deb" |
		tar -x -C "$to" --wildcards './boot/vmlinuz-*' -T "$to/wanted" 2>/dev/null
	image=$(echo "$to"/boot/vmlinuz-*)
	[ -r "$image" ] || return 1
	mv "$image" "$to/vmlinuz"
	mkdir "$to/modules"
	find "$to/lib" -name hv_vmbus.ko | grep -q . || return 1
	find "$to/lib" -name '*.ko' -exec mv -t "$to/modules" {} +
	rm -r "${to:?}/lib" "${to:?}/boot"
	echo "${image##*/vmlinuz-}" >"$to/version"
}

pack() { (cd "$1" && find . -mindepth 1 -printf '%P\n' | sort | cpio -o -H newc -R 0:0 --quiet); }

# with_libraries TO PROGRAM...: the programs into TO/bin (or $place), and what they are linked with.
with_libraries() {
	local to=$1 program library
	shift
	for program in "$@"; do
		cp "$program" "$to/$place/"
		ldd "$program" 2>/dev/null | grep -oE '/[^ ]+' | while read -r library; do
			# The tree may lie where the outer machine mounts something: ours go to a
			# folder where the loader looks anyway.
			case $library in
			/lib* | /usr/lib*) there=$to$library ;;
			*) there=$to/usr/lib/${library##*/} ;;
			esac
			mkdir -p "$(dirname "$there")"
			cp -L "$library" "$there"
			strip --strip-unneeded "$there" 2>/dev/null
		done
		strip "$to/$place/${program##*/}" 2>/dev/null
	done
}

# The guest's: one base, which all kernels share, and the modules of each.
inner_image() {
	local root=$out/tmp/inner flavour mods
	rm -rf "$root"
	mkdir -p "$root/bin" "$root/sbin" "$root/dev" "$root/lib/modules" "$root/vmtest"
	cp /bin/busybox "$root/bin/busybox"
	cp "$here/inner/common" "$root/vmtest/common"
	ln -s busybox "$root/bin/sh"
	cp "$here/inner/init" "$root/init"
	cp "$here/inner/lsvmbus" "$root/bin/lsvmbus"
	cp "$here/inner/dhcp" "$root/vmtest/dhcp"
	cp "$here/inner/poweroff" "$root/sbin/poweroff"
	cp "$out/aid" "$root/bin/aid"
	[ -r "$here/inner/uio-test" ] && cp "$here/inner/uio-test" "$root/uio-test"
	place=bin
	[ -x "$build/tools/vmbus-uio" ] && with_libraries "$root" "$build/tools/vmbus-uio"
	place=usr/bin
	mkdir -p "$root/usr/bin"
	[ -x /usr/bin/lsblk ] && with_libraries "$root" /usr/bin/lsblk
	for flavour in "$@"; do
		mods=$root/lib/modules/$(cat "$out/kernels/$flavour/version")
		mkdir -p "$mods"
		find "$out/kernels/$flavour/modules" -name '*.ko' ! -name 'kvm*' ! -name irqbypass.ko \
			! -name 'hv_balloon.ko' -exec cp -t "$mods" {} +
		for module in $outer_modules; do rm -f "$mods/$module.ko"; done
		pack "$root" >"$out/kernels/$flavour/initrd"
		rm -rf "$mods"
		kexec_image "$flavour"
	done
}

# The same with a kernel to start, and what that one starts with, in it.
kexec_image() {
	local kernel=$out/kernels/$1 root=$out/tmp/kexec
	rm -rf "$root"
	mkdir -p "$root/kexec"
	cp "$kernel/vmlinuz" "$kernel/initrd" "$root/kexec/"
	{
		cat "$kernel/initrd"
		pack "$root"
	} >"$kernel/initrd-kexec"
}

# What only scenarios with disks need in the outer machine: the root disk, and e2fsck.
# What is in the image of all is not here again.
disk_image() {
	local root=$out/tmp/disk
	rm -rf "$root"
	[ "$with_disk" = yes ] || return 0
	mkdir -p "$root/vm/bin"
	cp --sparse=always "$out/root.ext4" "$root/vm/"
	cp "$here/inner/conformance" "$root/vm/"
	place=vm/bin
	with_libraries "$root" "$(PATH=$PATH:/usr/sbin:/sbin command -v e2fsck)"
	pack_rest "$root" "$1" "$out/disk.cpio"
}

# pack_rest ROOT OTHER FILE: what is not in the other already.
pack_rest() {
	local at
	(cd "$1" && find . -type f -path '*/lib*' -printf '%P\n') | while read -r at; do
		[ ! -e "$2/$at" ] || rm "$1/$at"
	done
	pack "$1" >"$3"
}

# QEMU, to compare with.
qemu_image() {
	local root=$out/tmp/qemu firmware
	rm -rf "$root"
	[ "$with_qemu" = yes ] || return 0
	mkdir -p "$root/vm/bin/qemu"
	place=vm/bin
	with_libraries "$root" "$(command -v qemu-system-x86_64)"
	for firmware in bios-256k.bin linuxboot_dma.bin kvmvapic.bin; do
		find /usr/share/seabios /usr/share/qemu /usr/lib/ipxe -name $firmware 2>/dev/null | head -n 1 |
			xargs -r cp -L -t "$root/vm/bin/qemu"
	done
	pack_rest "$root" "$1" "$out/qemu.cpio"
}

# Debian's programs that scenarios with networks use, in the guest and outside of it.
net_programs='iperf3 ethtool ip ping tcpdump'
net_why() {
	local tool
	for tool in $net_programs; do
		PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null || {
			why="$tool is missing; as root: apt-get install iperf3 ethtool iproute2 iputils-ping tcpdump"
			return 1
		}
	done
}

# What only scenarios with networks need: a part of the guest's memory image, and programs and modules
# for the outer machine.
net_image() {
	local root=$out/tmp/net inner=$out/tmp/guest-net tool module have=()
	rm -rf "$root" "$inner"
	[ "$with_net" = yes ] || return 0
	for tool in $net_programs; do have+=("$(PATH=$PATH:/usr/sbin:/sbin command -v "$tool")"); done
	mkdir -p "$inner"/{usr/bin,vmtest,bin} "$root"/vm/{bin,netmods}
	cp "$here/inner/net" "$inner/vmtest/"
	cp "$out/netaid" "$inner/usr/bin/"
	place=usr/bin
	with_libraries "$inner" "${have[@]}"
	rm "$inner/usr/bin/tcpdump"
	pack "$inner" >"$root/vm/guest-net.cpio"
	place=vm/bin
	with_libraries "$root" "${have[@]}" "$out/netaid"
	for module in $outer_modules stp llc garp mrp 8021q; do
		cp "$out/kernels/cloud/modules/$module.ko" "$root/vm/netmods/" 2>/dev/null
	done
	pack_rest "$root" "$1" "$out/net.cpio"
}

# Debian's programs that guests with a root disk use.
disk_programs='fio mke2fs e2fsck resize2fs blkdiscard fstrim sync iscsi-test-cu sg_inq sg_vpd sg_readcap sg_luns sg_turs
	sg_requests sg_modes sg_sync sg_start sg_verify sg_unmap sg_write_same sg_persist sg_raw'

# The root disk of guests: an ext4 image with those programs, made without root's rights.
root_image() {
	local root=$out/tmp/root tool found have=()
	for tool in $disk_programs; do
		found=$(PATH=$PATH:/usr/sbin:/sbin command -v "$tool") || {
			why="$tool is missing; as root: apt-get install fio sg3-utils libiscsi-bin e2fsprogs"
			return 1
		}
		have+=("$found")
	done
	rm -rf "$root"
	mkdir -p "$root"/{bin,sbin,usr/bin,dev,proc,sys,tmp,run,data,etc,vmtest}
	cp /bin/busybox "$root/bin/busybox"
	busybox --list | grep -vxF "$(basename -a "${have[@]}")" | sed "s|.*|$root/bin/&|" |
		grep -v '/busybox$' | xargs -n 1 ln -s busybox
	cp "$here/inner/common" "$here/inner/disks" "$root/vmtest/"
	cp "$here/inner/root-init" "$root/sbin/init"
	cp "$here/inner/root-poweroff" "$root/sbin/poweroff"
	cp "$here/inner/lsvmbus" "$out/aid" "$root/bin/"
	: >"$root/etc/mtab"
	echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
	cp /etc/mke2fs.conf "$root/etc/" 2>/dev/null
	place=usr/bin
	with_libraries "$root" "${have[@]}"
	without_icu "$root"
	rm -f "$out/root.ext4"
	truncate -s 112M "$out/root.ext4"
	PATH=$PATH:/usr/sbin:/sbin mke2fs -q -t ext4 -E root_owner=0:0 -d "$root" "$out/root.ext4" || {
		why="mke2fs cannot make $out/root.ext4"
		return 1
	}
}

# Libraries of libraries of fio's bring 31 MB of tables of the world's alphabets.
without_icu() {
	local library version
	for library in "$1"/lib/*/libicudata.so.* "$1"/usr/lib/*/libicudata.so.*; do
		[ -r "$library" ] || continue
		version=${library##*.}
		echo "const char icudt${version}_dat[16];" |
			cc -shared -x c - -o "$library" -Wl,-soname,"libicudata.so.$version"
	done
}

# The outer machine's, without the list of scenarios.
outer_image() {
	local root=$out/tmp/outer flavour library
	rm -rf "$root"
	mkdir -p "$root/bin" "$root/sbin" "$root/dev" "$root/vm/bin" "$root/vm/kvm" "$root/etc"
	cp /bin/busybox "$root/bin/busybox"
	ln -s busybox "$root/bin/sh"
	cp "$here/outer/init" "$root/init"
	cp "$here/outer/drive" "$here/outer/scenarios.sh" "$here/outer/disks.sh" "$here/outer/net.sh" \
		"$here/outer/agent" "$root/vm/"
	cp "$out/aid" "$root/vm/bin/aid"
	echo "${VMBUS_VM_APPEND:-}" >"$root/vm/append"
	echo 'root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false' >"$root/etc/passwd"
	echo 'root:x:0:
nogroup:x:65534:' >"$root/etc/group"
	for module in irqbypass kvm kvm-amd; do cp "$out/kernels/cloud/modules/$module.ko" "$root/vm/kvm/"; done
	place=vm/bin
	with_libraries "$root" "$build/vmm/vmbus-vmm" "$build/tools/vmbusctl"
	[ -x "$build/tools/vmbus-blk" ] && with_libraries "$root" "$build/tools/vmbus-blk"
	[ -x "$build/tools/vmbus-switch" ] && with_libraries "$root" "$build/tools/vmbus-switch"
	[ -x "$build/tools/vmbus-provider" ] && with_libraries "$root" "$build/tools/vmbus-provider"
	[ -x "$build/bench/vmbus-bench" ] && with_libraries "$root" "$build/bench/vmbus-bench"
	# What vmbus-vmm loads when it is asked for a user-mode network.
	mkdir -p "$root/usr/lib"
	place=usr/lib
	for library in "$build"/libvmbus-slirp.so.?; do
		[ ! -e "$library" ] || with_libraries "$root" "$library"
	done
	[ -r "$build/tests/payload/payload" ] && cp "$build/tests/payload/payload" "$root/vm/bin/"
	for flavour in "$@"; do
		mkdir -p "$root/vm/kernels/$flavour"
		cp "$out/kernels/$flavour"/{vmlinuz,initrd} "$root/vm/kernels/$flavour/"
		[ "$with_kexec" = no ] || cp "$out/kernels/$flavour/initrd-kexec" "$root/vm/kernels/$flavour/"
	done
	pack "$root" >"$out/outer.cpio"
	disk_image "$root"
	net_image "$root"
	qemu_image "$root"
	if [ "$main_kind" = direct ]; then
		rm -rf "$out/direct"
		cp -r "$root/vm" "$out/direct"
		for flavour in disk net qemu; do
			[ ! -d "$out/tmp/$flavour/vm" ] || cp -r "$out/tmp/$flavour/vm/." "$out/direct/"
		done
	fi
}
