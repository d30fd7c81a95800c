# The format of each setting, and contradictions between settings. The daemons check more; `--after` shows what they reject.

label='[a-z0-9]([a-z0-9-]*[a-z0-9])?'
host="$label(\\.$label)+"
object="$label/$label"
repository='[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)+'
image="([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@sha256:[0-9a-f]{64})?"
tag='[A-Za-z0-9_][A-Za-z0-9_.-]*'
taint='[A-Za-z0-9._/-]+(=[A-Za-z0-9._-]*)?(:(NoSchedule|NoExecute))?'
address="$object(:[0-9]+)?|[A-Za-z0-9.-]+:[0-9]+"
number='[1-9][0-9]*'
switch='[Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|[Yy][Ee][Ss]|[Nn][Oo]|[Oo][Nn]|[Oo][Ff][Ff]|1|0'
duration='([0-9]+ *(ms|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?) *)+'
hub_duration='([0-9]+(\.[0-9]+)? *(ms|s|m|h|d) *)+|0'
bytes='[0-9]+(\.[0-9]+)? *(B|kB|MB|GB|Ki|Mi|Gi|KiB|MiB|GiB)?'
octet='(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])'
network="$octet\\.$octet\\.$octet\\.$octet/(3[0-2]|[12]?[0-9])|[0-9a-f:]*:[0-9a-f:]*/(12[0-8]|1[01][0-9]|[1-9]?[0-9])"

list_of() { printf '%s' "(($1) *)?(, *(($1) *)?)*"; } # a daemon skips empty entries

for name in "${!setting[@]}"; do
  given=${setting[$name]}
  if [[ $given =~ $invisible ]]; then
    problem "$name" "its value contains an invisible character, such as a no-break space: type the value again"
  fi
  case $name in EXCLUDE_LINES | LAB_SIZES | LAB_CLASS_GROUPS) continue ;; esac
  if [[ $given == *[[:cntrl:]]* ]]; then
    problem "$name" "its value contains a line break or a tab: write it in one line"
  elif [[ $given == [[:space:]]* || $given == *[[:space:]] ]]; then
    problem "$name" "its value begins or ends with a blank: remove it"
  elif [[ $given == \"*\" || $given == \'*\' ]]; then
    problem "$name" "the quotes would be part of its value: remove them, or quote the whole entry, as in \"$name=VALUE\""
  fi
done

# Values of the example that were not edited yet.
for name in SITE_HOST LAB_REPOSITORIES GITHUB_ORGANIZATIONS AMQP_URL; do
  case $name in LAB_REPOSITORIES) part=prepuller ;; AMQP_URL) part=log-shipper ;; *) part=hub ;; esac
  on $part || continue
  case "$name=$(value $name)" in
  *labs.example.org* | *ghcr.io/example/* | GITHUB_ORGANIZATIONS=example | *rabbitmq.example.org*)
    problem $name "it still has the example's value: write your own" ;;
  esac
done

if on hub || on nginx || on ingress || on gateway || on httproute; then
  must_be_set SITE_HOST "users see the Hub there" hub.example.edu
fi
must_match SITE_HOST "$host" "a host name in lowercase letters, without scheme, port or path" hub.example.edu
if on gateway; then must_be_set GATEWAY_CLASS "the Gateway's class; kubectl get gatewayclass lists them" traefik; fi

if on prepuller; then
  [ -n "$(value LAB_REPOSITORIES)$(value LAB_CONTAINER_NAMES)" ] ||
    problem LAB_REPOSITORIES "it is missing, and LAB_CONTAINER_NAMES too, so no lab would be wanted (example: LAB_REPOSITORIES=ghcr.io/you/lab)"
  on secrets/registry && [ "$(value REGISTRY_AUTH_FILE)" != /etc/labhands/registry/.dockerconfigjson ] &&
    problem REGISTRY_AUTH_FILE "secrets/registry is on, but nothing reads it: set REGISTRY_AUTH_FILE=/etc/labhands/registry/.dockerconfigjson"
fi
must_match LAB_REPOSITORIES "$(list_of "$repository")" "REGISTRY/OWNER/NAME, without scheme and tag, comma-separated" ghcr.io/you/lab
must_match LAB_TAG_SCHEME 'rubin|semver|calendar|regex:.+' "rubin, semver, calendar or regex:PATTERN" semver
must_match LAB_KEEP '[a-z_]+=[0-9]+( *, *[a-z_]+=[0-9]+)*' "CLASS=NUMBER, comma-separated" release=1,weekly=2,daily=3
classes="release weekly daily candidate experimental unknown"
case $(value LAB_TAG_SCHEME) in
semver) read_as="release candidate" ;;
calendar) read_as="release daily candidate" ;;
*) read_as=$classes ;;
esac
keeps=
for entry in $(value LAB_KEEP | tr , ' '); do
  name=${entry%%=*}
  [[ " $classes " == *" $name "* ]] || problem LAB_KEEP "there is no class $name; the classes are ${classes// /, }"
  [[ " $read_as unknown " == *" $name "* && ! ${entry#*=} =~ ^0*$ ]] && keeps=1
done
if on prepuller && [ -z "$keeps$(value LAB_PINNED)$(value LAB_CONTAINER_NAMES)" ]; then
  warn LAB_KEEP "it keeps no class that LAB_TAG_SCHEME reads, so no lab is wanted; the scheme reads tags as ${read_as// /, }"
fi
must_match LAB_NAMESPACE "$label" "a namespace" jupyter
must_match LAB_NODE_SELECTOR '[^=,]+=[^=,]*(,[^=,]+=[^=,]*)*' "LABEL=VALUE, comma-separated" hub.jupyter.org/node-purpose=user
must_match LAB_CONTAINER_NAMES "$(list_of "$image")" "REGISTRY/OWNER/NAME:TAG, comma-separated" ghcr.io/you/lab:1.2
must_match LAB_INFRASTRUCTURE_IMAGES "$(list_of "$image")" "REGISTRY/OWNER/NAME:TAG, comma-separated" ghcr.io/you/helper:1.2
for name in LAB_PINNED LAB_ALIASES; do must_match $name "$(list_of "$tag")" "tags, comma-separated" recommended; done
must_match LAB_INSECURE_REGISTRIES "$(list_of '(http://)?([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]+)?/*')" "HOST or HOST:PORT, comma-separated" registry.example.edu:5000
must_match LAB_TOLERATIONS "$(list_of "$taint")" "KEY=VALUE:NoSchedule, comma-separated" gpu=true:NoSchedule
must_match GATE_TAINT '[A-Za-z0-9._/-]+' "the key of a taint, without value and effect" labhands.dev/images
must_match KUBELET_CONFIG_FILE '/[^[:space:]]+' "an absolute path" /var/lib/kubelet/config.yaml
must_match PURGE_SCOPE 'catalogue|all' "catalogue or all" catalogue
must_match RUNTIME_ENDPOINT '(unix|docker):///.+' "unix:///… or docker:///…" unix:///run/containerd/containerd.sock
[ -z "$(value LAB_INSECURE_REGISTRIES)" ] ||
  warn LAB_INSECURE_REGISTRIES "without TLS, anybody on the network path can change images from $(value LAB_INSECURE_REGISTRIES)"
for name in DISK_HIGH DISK_LOW; do must_match $name '([1-9]|[1-9][0-9]) *%?' "a percentage below 100" 75%; done
high=$(value DISK_HIGH) low=$(value DISK_LOW)
high=${high%\%} low=${low%\%}
high=${high%"${high##*[! ]}"} low=${low%"${low##*[! ]}"}
[[ ${high:-75} =~ ^[0-9]+$ && ${low:-65} =~ ^[0-9]+$ ]] && [ "${low:-65}" -ge "${high:-75}" ] &&
  problem DISK_LOW "${low:-65} % is not below DISK_HIGH, ${high:-75} %: removal would never end"

if on log-shipper && [ "$(value OUTPUT)" != stdout ]; then
  must_be_set AMQP_URL "there is no broker to send to" amqps://rabbitmq.example.edu
  [ -n "$(value AMQP_USERNAME)$(value AMQP_CERT_FILE)" ] || problem AMQP_USERNAME "it is missing: the broker requires a user name or a client certificate (example: AMQP_USERNAME=log-shipper)"
  [ -n "$(value AMQP_USERNAME)" ] && [ -z "$(value AMQP_PASSWORD_FILE)" ] && [ -z "$(value AMQP_CERT_FILE)" ] &&
    problem AMQP_PASSWORD_FILE "it is missing, although AMQP_USERNAME is set (example: AMQP_PASSWORD_FILE=/etc/labhands/amqp/password)"
fi
case $(value AMQP_URL | sed 's/ *, */,/g') in
"") ;;
*://*:*@*) problem AMQP_URL "it contains a password: write that into secrets/log-shipper/amqp.env, and set AMQP_USERNAME and AMQP_PASSWORD_FILE" ;;
amqps://*[[:space:]]* | amqp://*[[:space:]]*) problem AMQP_URL "it contains a blank: separate several hosts by commas" ;;
amqps://?*) ;;
amqp://?*) warn AMQP_URL "without TLS anybody on the network path can read the logs and the password; use amqps:// for TLS" ;;
*) problem AMQP_URL "\"$(value AMQP_URL)\" does not begin with amqps:// (example: AMQP_URL=amqps://rabbitmq.example.edu)" ;;
esac
for name in AMQP_CERT_FILE AMQP_KEY_FILE AMQP_TLS_SERVER_NAME; do
  [[ -z $(value $name) || $(value AMQP_URL) == amqps://* ]] || problem $name "it needs TLS, so AMQP_URL must begin with amqps://"
done
if [ -n "$(value AMQP_CERT_FILE)" ] && [ -z "$(value AMQP_KEY_FILE)" ]; then problem AMQP_KEY_FILE "it is missing, although AMQP_CERT_FILE is set"; fi
if [ -n "$(value AMQP_KEY_FILE)" ] && [ -z "$(value AMQP_CERT_FILE)" ]; then problem AMQP_CERT_FILE "it is missing, although AMQP_KEY_FILE is set"; fi
must_match EVENT_SCHEMA 'ecs|legacy' "ecs or legacy" ecs
must_match OUTPUT 'amqp|stdout|null' "amqp, stdout or null" amqp
must_match READ_FROM 'beginning|end' "beginning or end" beginning
must_count BATCH 0 100000 off false no on true yes
must_count LINES_PER_SECOND 1 10000000 off
must_match MULTILINE "$(list_of 'java|python|go|off')" "java, python and go, comma-separated, or off" java,python
for name in LOG_NAMESPACES LOG_NAMESPACES_EXCLUDED; do must_match $name "$(list_of "$label")" "namespaces, comma-separated" jupyter; done
for name in AMQP_WINDOW_BYTES PARTIAL_BYTES_MAX; do must_hold $name 64KiB 1GiB; done
must_hold MAX_LINE 1KiB 4MiB
must_match PINNED_BYTES_MAX "$bytes" "a size" 2GiB
if on log-shipper && on secrets/log-shipper; then
  must_match AMQP_PASSWORD_FILE /etc/labhands/amqp/password "the file of secrets/log-shipper" /etc/labhands/amqp/password
fi

must_match NFS_SERVICE "$object" "NAMESPACE/NAME of a Service" labhands-fileserver/fileserver
must_match NFS_EXPORT '/.*' "a path" /home
must_match VOLUME_CLAIM "$(list_of "$object")" "NAMESPACE/NAME, comma-separated" jupyter/homes,labhands/homes
must_match NODE_NETWORK "$network" "a range of addresses" 10.0.0.0/8
if on fileserver-node-network && [[ $(value NODE_NETWORK) == */0 ]]; then
  problem NODE_NETWORK "$(value NODE_NETWORK) is every address: write the network of the nodes"
fi
must_match VOLUME_DRIVER 'nfs|csi' "nfs or csi" nfs
must_match VOLUME_SIZE "$number(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?" "a size of Kubernetes" 500Gi
must_match VOLUME_MOUNT_OPTIONS "$(list_of '[^[:space:],]+')" "mount options, comma-separated without blanks" nfsvers=4.2,hard
must_match CLUSTER_DOMAIN "$label(\\.$label)*\\.?" "a domain" cluster.local
must_match NFS_SERVERS '[^/:].*' "HOST, HOST/EXPORT or HOST:PORT/EXPORT, comma-separated" nas.example.edu/home
must_match NFS_BACKENDS "$(list_of '[][A-Za-z0-9.:-]+=[][A-Za-z0-9.:-]+')" "HOST=HOST, comma-separated" 10.96.0.9=10.244.1.7
must_match NFS_MOUNTS_EXCLUDED "$(list_of '/[^,]*')" "absolute paths, comma-separated" '/net,/mnt/backup*'
must_match NFS_VERSION 'auto|3|4\.[012]' "auto, 3, 4.0, 4.1 or 4.2" 4.1
must_match FILESERVER_VERSIONS "$(list_of '3|4\.[012]')" "3, 4.0, 4.1 and 4.2, comma-separated" 3,4.1,4.2
must_match FILESERVER_SQUASH 'none|root|all' "none, root or all" none
must_match FILESERVER_READ_ONLY 'true|false' "true or false" false
must_match FILESERVER_MODE 'keep|[0-7]{3,4}' "keep, or a mode of three or four octal digits" 1777
must_match FILESERVER_CLIENTS '[A-Za-z0-9.:/,* -]+' "addresses and networks, comma-separated" 10.0.0.0/8
must_match FILESERVER_NAME '[A-Za-z0-9._-]+' "a name of letters, digits, ., - and _" homes
must_match FILESERVER_LOG 'NULL|FATAL|CRIT|WARN|EVENT|INFO|DEBUG' "a log level" EVENT
for name in FILESERVER_GRACE FILESERVER_LEASE; do must_match $name '[1-9][0-9]{0,2}' "a number of seconds from 1 to 999" 30; done
for name in FILESERVER_EXPORT FILESERVER_PATH FILESERVER_STATE; do
  must_match $name '/[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*/?' "an absolute path of letters, digits, ., - and _" /home
done
claims=",$(value VOLUME_CLAIM | tr -d ' '),"
if on nfs-volumes; then
  must_be_set NFS_SERVICE "the volumes need the server's Service" labhands-fileserver/fileserver
  must_be_set VOLUME_CLAIM "no volume would be created" jupyter/homes,labhands/homes
  if on fileserver; then
    [ "$(value NFS_SERVICE)" = labhands-fileserver/fileserver ] ||
      problem NFS_SERVICE "fileserver is on, and its Service is labhands-fileserver/fileserver, not $(value NFS_SERVICE)"
    [ "$(value NFS_EXPORT)" = "$(value FILESERVER_EXPORT)" ] ||
      problem NFS_EXPORT "the file server exports FILESERVER_EXPORT, $(value FILESERVER_EXPORT), not $(value NFS_EXPORT)"
  elif [ "$(value NFS_SERVICE)" = labhands-fileserver/fileserver ]; then
    problem NFS_SERVICE "fileserver is off: set the Service of your own server"
  fi
  if on hub && [[ $claims != *,jupyter/$(value HOME_CLAIM),* ]]; then
    problem VOLUME_CLAIM "it lacks jupyter/$(value HOME_CLAIM), which holds the homes of the Hub's users"
  fi
  if on fs-keepalive && [[ $claims != *,labhands/homes,* ]]; then
    problem VOLUME_CLAIM "it lacks labhands/homes, to which fs-keepalive writes"
  fi
  if on firefly-shared && [[ $claims != *,firefly/homes,* ]]; then
    problem VOLUME_CLAIM "it lacks firefly/homes, from which Firefly reads"
  fi
fi

if ! on nfs-volumes; then
  on hub && warn hub "nfs-volumes is off: create the claim jupyter/$(value HOME_CLAIM) for the homes yourself"
  on fs-keepalive && warn fs-keepalive "nfs-volumes is off: create the claim labhands/homes yourself"
  on firefly-shared && warn firefly-shared "nfs-volumes is off: create the claim firefly/homes yourself"
fi

if on hub; then
  provider=$(value LOGIN_PROVIDER)
  provider=${provider,,}
  case ${provider:-github} in
  github) must_be_set GITHUB_ORGANIZATIONS "no user could log in" your-organization ;;
  cilogon) must_be_set CILOGON_IDENTITY_PROVIDERS "no user could log in" https://idp.example.edu/idp/shibboleth
    must_be_set LOGIN_UID_CLAIM "each user needs a uid" uidNumber
    must_be_set LOGIN_GROUPS "no user could log in" astronomers ;;
  oidc) must_be_set LOGIN_UID_CLAIM "each user needs a uid" uidNumber
    must_be_set LOGIN_GROUPS "no user could log in" astronomers ;;
  dummy) problem LOGIN_PROVIDER "dummy admits everybody who knows one password: use it only for demonstrations" ;;
  *) problem LOGIN_PROVIDER "\"$provider\" is not one of github, cilogon, oidc" ;;
  esac
  if ! on prepuller && [ -z "$(value LAB_CATALOGUE)" ]; then
    problem LAB_CATALOGUE "prepuller is off: set the address of the catalogue for the menu"
  fi
  callback=$(value OAUTH_CALLBACK_URL)
  [ "${callback/SITE_HOST/$(value SITE_HOST)}" = "https://$(value SITE_HOST)/hub/oauth_callback" ] ||
    problem OAUTH_CALLBACK_URL "it is not https://$(value SITE_HOST)/hub/oauth_callback, which is the default: remove it"
  [ "$(value LAB_NAMESPACE)" = jupyter ] || problem LAB_NAMESPACE "the Hub's labs run in the namespace jupyter, not in $(value LAB_NAMESPACE)"
fi
for name in GITHUB_ORGANIZATIONS GITHUB_ADMIN_TEAMS; do
  must_match $name "$(list_of '[A-Za-z0-9-]+(:[A-Za-z0-9._-]+)?')" "ORGANIZATION or ORGANIZATION:TEAM, comma-separated" your-organization:your-team
done
for name in $(value GITHUB_ADMIN_TEAMS | tr , ' '); do
  [[ " $(value GITHUB_ORGANIZATIONS | tr , ' ') " == *" $name "* ]] &&
    warn GITHUB_ADMIN_TEAMS "everybody in $name may log in and would administer the Hub: write ORGANIZATION:TEAM for a team"
done
must_match GITHUB_HOST "$host" "a host name, without scheme" github.example.edu
must_match LAB_CATALOGUE '(https?|file)://[^[:space:]]+' "an address that begins with http://, https:// or file://" http://prepuller.labhands/catalogue.json
for name in LAB_SIZES LAB_CLASS_GROUPS; do must_match $name '[[:space:]]*\{[[:space:]]*(".*)?\}[[:space:]]*' "a JSON object" '{"daily": ["organization:team"]}'; done
for name in LAB_CPU_LIMIT LAB_CPU_GUARANTEE; do must_match $name '[0-9]+(\.[0-9]+)?' "a number of CPUs" 0.5; done
for name in LAB_MEM_LIMIT LAB_MEM_GUARANTEE; do must_match $name '[0-9]+(\.[0-9]+)?[KMGT]?' "an amount of memory in K, M, G or T" 2G; done
must_match HOME_CLAIM "$label" "the name of a claim" homes
must_match HOME_MOUNT '/[^[:space:]]+' "an absolute path" /home
for name in HUB_SERVICE FIREFLY_SERVICE; do must_match $name "$address" "NAMESPACE/NAME of a Service" jupyter/proxy-public; done
must_match FIREFLY_CONTEXT '/[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*/?' "a path" /firefly
must_match VISUALIZE_FITS_SEARCH_PATH '/[^[:space:]]*' "an absolute path" /data

if on firefly; then
  on nginx && [ -z "$(value FIREFLY_SERVICE)" ] && problem FIREFLY_SERVICE "firefly is on, but nginx does not route to it (example: FIREFLY_SERVICE=firefly/firefly)"
  on log-shipper && [[ $(value EXCLUDE_LINES) != *"Admin password"* ]] &&
    problem EXCLUDE_LINES "it lacks \"Admin password\": Firefly logs its password when it starts, and that line would be shipped"
elif [ -n "$(value FIREFLY_SERVICE)" ] && on nginx; then
  problem FIREFLY_SERVICE "firefly is off: switch it on, or remove this setting"
fi

for name in SCAN_INTERVAL PURGE_INTERVAL GATE_TIMEOUT; do must_last $name "$duration" 1s 7d; done
for name in PREPULLER_STALLED_AFTER PREPULLER_AGENT_MISSING_AFTER PULL_STALL_TIMEOUT UNPACK_TIMEOUT NFS_INTERVAL AMQP_CONFIRM_TIMEOUT; do
  must_last $name "$duration" 1s 1d
done
for name in NFS_TIMEOUT KEEPALIVE_TIMEOUT; do must_last $name "$duration" 100ms 1h; done
must_last PREPULLER_NEW_NODE_AGE "$duration" 1ms 365d
for name in PURGE_GRACE CATALOGUE_MAX_AGE; do must_last $name "$duration" 1ms 36500d; done
must_last KEEPALIVE_INTERVAL "$duration" 100ms 270s
must_last AMQP_HEARTBEAT "$duration" 1s 1h
for name in LOGIN_GRACE LOGIN_REFRESH LAB_CATALOGUE_REFRESH LAB_CATALOGUE_STALE LAB_START_TIMEOUT LAB_CULL_IDLE LAB_CULL_AGE; do
  must_last $name "$hub_duration"
done
must_count PREPULLER_PARALLEL_NODES 1 100000
must_count PURGE_MAX_PER_ROUND 1 10000
for name in PREPULLER_PARALLEL_IMAGES READER_THREADS; do must_count $name 1 16; done
for name in AMQP_WINDOW NFS_MOUNT_PORT; do must_count $name 1 65535; done
must_count NFS_ROUNDS 1 100
must_match MAX_RAM_PERCENT '[1-9][0-9]?' "a percentage below 100, without sign" 80
for name in PURGE_FORCE_SHRINK PURGE_DRY_RUN LOG_OPT_OUT NFS_MOUNTS JSON_LINES GITHUB_PUSH LOGIN_HUB_GROUPS; do must_match $name "$switch" "true or false" false; done
