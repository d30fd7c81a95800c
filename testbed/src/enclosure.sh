# $1: the name of the cgroup, $2: the file to make when all is ready, $3: `--net` or nothing. Becomes the first process of new namespaces.
for cgroup in /sys/fs/cgroup /sys/fs/cgroup/*; do
	[ -e "$cgroup/cgroup.procs" ] && [ ! -L "$cgroup" ] || continue
	mkdir "$cgroup/$1" || exit
	for file in cpuset.cpus cpuset.mems; do # version 1: empty until it is given its parent's
		[ -e "$cgroup/$1/$file" ] && [ -e "$cgroup/cgroup.clone_children" ] && cat "$cgroup/$file" >"$cgroup/$1/$file"
	done
	echo $$ >"$cgroup/$1/cgroup.procs" || exit
done
exec unshare ${3:+"$3"} --pid --mount --cgroup --fork --kill-child=KILL --mount-proc sh -c '
	set -e
	# cgroups seen from here start at the one just made
	mounts=$(cat /proc/mounts)
	printf "%s\n" "$mounts" | while read -r _ mount type options _; do
		case $type in
		cgroup) umount "$mount" && mount -t "$type" -o "$options" cgroup "$mount" ;;
		cgroup2)
			umount "$mount" && mount -t "$type" cgroup "$mount"
			[ "$mount" = /sys/fs/cgroup ] || continue
			mkdir /sys/fs/cgroup/init && echo 0 >/sys/fs/cgroup/init/cgroup.procs
			for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
				echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
			done
			;;
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
' testbed-enclosure "$2"
