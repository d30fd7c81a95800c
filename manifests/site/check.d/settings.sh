# The format of each setting, and contradictions between settings. The daemons check more; `--after` shows what they reject.

must_match() { # must_match NAME PATTERN WHAT EXAMPLE
  local given; given=$(value "$1")
  [ -z "$given" ] || [[ $given =~ ^($2)$ ]] || problem "$1" "\"$given\" is not $3 (example: $1=$4)"
}

must_be_set() { # must_be_set NAME WHY EXAMPLE
  [ -n "$(value "$1")" ] || problem "$1" "it is missing: $2 (example: $1=$3)"
}

label='[a-z0-9]([a-z0-9-]*[a-z0-9])?'
host="$label(\\.$label)+"
object="$label/$label"
repository='[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)+'
number='[0-9]+'
switch='true|false|on|off'
duration='([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+|0'

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
  on secrets/registry && [ -z "$(value REGISTRY_AUTH_FILE)" ] &&
    problem REGISTRY_AUTH_FILE "secrets/registry is on, but nothing reads it: set REGISTRY_AUTH_FILE=/etc/labhands/registry/.dockerconfigjson"
fi
must_match LAB_REPOSITORIES "$repository( *, *$repository)*" "REGISTRY/OWNER/NAME, without scheme and tag, comma-separated" ghcr.io/you/lab
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
must_match RUNTIME_ENDPOINT '(unix|docker):///.+' "unix:///… or docker:///…" unix:///run/containerd/containerd.sock
[ -z "$(value LAB_INSECURE_REGISTRIES)" ] ||
  warn LAB_INSECURE_REGISTRIES "without TLS, anybody on the network path can change images from $(value LAB_INSECURE_REGISTRIES)"
for name in DISK_HIGH DISK_LOW; do must_match $name '([1-9]|[1-9][0-9])%?' "a percentage below 100" 75%; done
high=$(value DISK_HIGH) low=$(value DISK_LOW)
high=${high%\%} low=${low%\%}
[[ ${high:-75} =~ ^[0-9]+$ && ${low:-65} =~ ^[0-9]+$ ]] && [ "${low:-65}" -ge "${high:-75}" ] &&
  problem DISK_LOW "${low:-65} % is not below DISK_HIGH, ${high:-75} %: removal would never end"

if on log-shipper && [ "$(value OUTPUT)" != stdout ]; then
  must_be_set AMQP_URL "there is no broker to send to" amqps://rabbitmq.example.edu
  [ -n "$(value AMQP_USERNAME)$(value AMQP_CERT_FILE)" ] || problem AMQP_USERNAME "it is missing: the broker requires a user name or a client certificate (example: AMQP_USERNAME=log-shipper)"
  [ -n "$(value AMQP_USERNAME)" ] && [ -z "$(value AMQP_PASSWORD_FILE)" ] && [ -z "$(value AMQP_CERT_FILE)" ] &&
    problem AMQP_PASSWORD_FILE "it is missing, although AMQP_USERNAME is set (example: AMQP_PASSWORD_FILE=/etc/labhands/amqp/password)"
fi
case $(value AMQP_URL) in
"") ;;
*://*:*@*) problem AMQP_URL "it contains a password: write that into secrets/log-shipper/amqp.env, and set AMQP_USERNAME and AMQP_PASSWORD_FILE" ;;
amqps://?*) ;;
amqp://?*) warn AMQP_URL "without TLS anybody on the network path can read the logs and the password; use amqps:// for TLS" ;;
*) problem AMQP_URL "\"$(value AMQP_URL)\" does not begin with amqps:// (example: AMQP_URL=amqps://rabbitmq.example.edu)" ;;
esac
must_match EVENT_SCHEMA 'ecs|legacy' "ecs or legacy" ecs

must_match NFS_SERVICE "$object" "NAMESPACE/NAME of a Service" labhands-fileserver/fileserver
must_match NFS_EXPORT '/.*' "a path" /home
must_match VOLUME_CLAIM "$object( *, *$object)*" "NAMESPACE/NAME, comma-separated" jupyter/homes,labhands/homes
must_match NODE_NETWORK '[0-9a-f.:]+/[0-9]+' "a range of addresses" 10.0.0.0/8
must_match VOLUME_DRIVER 'nfs|csi' "nfs or csi" nfs
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

if on hub; then
  provider=$(value LOGIN_PROVIDER)
  case ${provider:-github} in
  github) must_be_set GITHUB_ORGANIZATIONS "no user could log in" your-organization ;;
  cilogon) must_be_set CILOGON_IDENTITY_PROVIDERS "no user could log in" https://idp.example.edu/idp/shibboleth
    must_be_set LOGIN_UID_CLAIM "each user needs a uid" uidNumber ;;
  oidc) must_be_set LOGIN_UID_CLAIM "each user needs a uid" uidNumber ;;
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
must_match GITHUB_ORGANIZATIONS '[A-Za-z0-9-]+(:[A-Za-z0-9._-]+)?( *, *[A-Za-z0-9-]+(:[A-Za-z0-9._-]+)?)*' \
  "ORGANIZATION or ORGANIZATION:TEAM, comma-separated" your-organization
must_match GITHUB_PUSH "$switch" "on or off" off

if on firefly; then
  on nginx && [ -z "$(value FIREFLY_SERVICE)" ] && problem FIREFLY_SERVICE "firefly is on, but nginx does not route to it (example: FIREFLY_SERVICE=firefly/firefly)"
  on log-shipper && [[ $(value EXCLUDE_LINES) != *"Admin password"* ]] &&
    problem EXCLUDE_LINES "it lacks \"Admin password\": Firefly logs its password when it starts, and that line would be shipped"
elif [ -n "$(value FIREFLY_SERVICE)" ] && on nginx; then
  problem FIREFLY_SERVICE "firefly is off: switch it on, or remove this setting"
fi

for name in SCAN_INTERVAL PREPULLER_NEW_NODE_AGE PREPULLER_STALLED_AFTER PREPULLER_AGENT_MISSING_AFTER PULL_STALL_TIMEOUT UNPACK_TIMEOUT \
  GATE_TIMEOUT PURGE_GRACE PURGE_INTERVAL CATALOGUE_MAX_AGE AMQP_CONFIRM_TIMEOUT AMQP_HEARTBEAT NFS_TIMEOUT NFS_INTERVAL KEEPALIVE_INTERVAL KEEPALIVE_TIMEOUT \
  LOGIN_GRACE LOGIN_REFRESH LAB_CATALOGUE_REFRESH LAB_CATALOGUE_STALE LAB_START_TIMEOUT LAB_CULL_IDLE LAB_CULL_AGE; do
  must_match $name "$duration" "a duration" 5m
done
for name in PREPULLER_PARALLEL_NODES PREPULLER_PARALLEL_IMAGES PURGE_MAX_PER_ROUND AMQP_WINDOW NFS_ROUNDS MAX_RAM_PERCENT; do
  must_match $name "$number" "a number" 10
done
for name in PURGE_FORCE_SHRINK PURGE_DRY_RUN LOG_OPT_OUT NFS_MOUNTS; do must_match $name "$switch" "true or false" false; done
