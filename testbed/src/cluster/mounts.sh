# Gives a node its own files at the usual paths, so that nothing of it is left on the machine. $1: the node's folder.
set -e
for path in /var/lib /var/log /opt; do # what the machine has there, and changes that go to the node's folder
	upper=$1/over$path
	mkdir -p "$upper/up" "$upper/work"
	mount -t overlay overlay -o "lowerdir=$path,upperdir=$upper/up,workdir=$upper/work" "$path"
done
while read -r source target; do
	mkdir -p "$1/$source" "$target"
	mount --bind "$1/$source" "$target"
done <<-END
	run /run/containerd
	root /var/lib/containerd
	kubelet /var/lib/kubelet
	logs /var/log/pods
END
