# Removes what a test process leaves when it is killed: its folders, the mounts beneath them, their cgroups and network links.
# $1: the start of its folders' paths, $2: the start of their names. Standard input ends when the test process does.
cat >/dev/null
try=0
while [ $((try += 1)) -le 200 ]; do
	while read -r _ mount _; do
		case $mount in "$1"*) umount -l "$mount" ;; esac
	done </proc/mounts
	for cgroup in /sys/fs/cgroup/*/"$2"* /sys/fs/cgroup/"$2"*; do
		[ -d "$cgroup" ] && find "$cgroup" -depth -type d -exec rmdir {} +
	done
	for alias in /sys/class/net/*/ifalias; do
		case $(cat "$alias") in "$2"*)
			link=${alias%/ifalias}
			ip link del "${link##*/}"
			;;
		esac
	done
	rm -rf --one-file-system "$1"*
	left=$(ls -d "$1"* /sys/fs/cgroup/*/"$2"* /sys/fs/cgroup/"$2"* 2>/dev/null)
	[ -n "$left" ] || break
	sleep 0.5
done
rmdir "${1%/*}" # if nobody else has a folder
