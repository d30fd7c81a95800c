# Creates the home of the user who runs it, and the files that give the user a name. Runs in the lab's image, without root or capabilities.
# The export's root has mode 1777, so that each user creates a folder there and owns it.
set -eu
refuse() { echo "$1" | tee /dev/termination-log >&2; exit 1; }

cd "/homes/$LAB_HOMES" || refuse "The folder of all homes is missing or not reachable."
if [ -L "$LAB_USER" ] || { [ -e "$LAB_USER" ] && [ ! -d "$LAB_USER" ]; }; then
    refuse "The home of $LAB_USER is not a folder. Please ask an administrator."
fi
[ -d "$LAB_USER" ] || mkdir -m 0700 "$LAB_USER" || refuse "The home of $LAB_USER cannot be created: see the line above."
owner=$(stat -c %u "$LAB_USER")
[ "$owner" = "$LAB_UID" ] || refuse "The home of $LAB_USER belongs to uid $owner, not to $LAB_UID. Please ask an administrator."
for folder in notebooks DATA WORK; do
    [ -e "$LAB_USER/$folder" ] || mkdir "$LAB_USER/$folder" || echo "warning: cannot create the folder $folder: the home is full or read-only" >&2
done

umask 022
# Keeps the image's entries, except those with the same number or name.
awk -F: -v uid="$LAB_UID" -v name="$LAB_USER" '$3 != uid && $1 != name' /etc/passwd > /identity/passwd
echo "$LAB_USER:x:$LAB_UID:$LAB_UID:$LAB_FULL_NAME:$LAB_HOME:/bin/bash" >> /identity/passwd
awk -F: -v gid="$LAB_UID" -v name="$LAB_USER" '$3 != gid && $1 != name' /etc/group > /identity/group
printf '%s\n' "$LAB_USER:x:$LAB_UID:" >> /identity/group
printf '%s' "$LAB_GROUPS" >> /identity/group
printf '%s' "$JUPYTER_CONFIGURATION" > /identity/jupyter_config.json
printf '%s' "$IPYTHON_CONFIGURATION" > /identity/ipython_config.json
printf '%s' "$GIT_CREDENTIAL" > /identity/git-credential-hub
chmod 0755 /identity/git-credential-hub
