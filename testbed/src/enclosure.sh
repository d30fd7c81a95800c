# $1: the name of the cgroup, $2: the file to make when all is ready, $3: `--net` or nothing. Becomes the first process of new
# namespaces. Cgroups of version 2 have one hierarchy at /sys/fs/cgroup, those of version 1 one folder each beneath it.
for cgroup in /sys/fs/cgroup /sys/fs/cgroup/*; do
	[ -e "$cgroup/cgroup.procs" ] && [ ! -L "$cgroup" ] || continue
	[ "$(stat -c %m "$cgroup")" = "$cgroup" ] || continue # a group inside the one hierarchy
	mkdir "$cgroup/$1" || exit
	if [ -e "$cgroup/cgroup.clone_children" ]; then
		for file in cpuset.cpus cpuset.mems; do # empty until they are given the parent's
			[ -e "$cgroup/$1/$file" ] && cat "$cgroup/$file" >"$cgroup/$1/$file"
		done
	fi
	echo $$ >"$cgroup/$1/cgroup.procs" || exit
done
exec unshare --cgroup sh -c '
	# version 2: only a group without processes hands controllers on, so they go to one inside it
	if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
		mkdir "/sys/fs/cgroup/$1/init" && echo $$ >"/sys/fs/cgroup/$1/init/cgroup.procs" || exit
		for group in /sys/fs/cgroup "/sys/fs/cgroup/$1"; do
			for controller in $(cat "$group/cgroup.controllers"); do
				echo "+$controller" >"$group/cgroup.subtree_control"
			done
		done
	fi
	shift
	exec unshare ${2:+"$2"} --pid --mount --fork --kill-child=KILL --mount-proc sh -c "$3" testbed-enclosure "$1"
' testbed-enclosure "$1" "$2" "$3" '
	set -e
	# cgroups seen from here start at the one just made
	mounts=$(cat /proc/mounts)
	printf "%s\n" "$mounts" | while read -r _ mount type options _; do
		case $type in
		cgroup) umount "$mount" && mount -t cgroup -o "$options" cgroup "$mount" ;;
		cgroup2) umount "$mount" && mount -t cgroup2 cgroup "$mount" ;;
		esac
	done
	# an empty /run, but the lock that all users of iptables share, and the name servers where systemd keeps them there
	touch /run/xtables.lock
	mkdir "$1.run"
	mount -n --rbind /run "$1.run"
	mount -n -t tmpfs tmpfs /run
	touch /run/xtables.lock
	mount -n --bind "$1.run/xtables.lock" /run/xtables.lock
	if [ -d "$1.run/systemd/resolve" ]; then
		mkdir -p /run/systemd/resolve
		mount -n --rbind "$1.run/systemd/resolve" /run/systemd/resolve
	fi
	umount -n -l "$1.run"
	rmdir "$1.run"
	mount --make-rshared /
	ip link set lo up
	touch "$1"
	set +e
	while :; do sleep 1000 & wait $!; done # reaps whatever is left to it
'
