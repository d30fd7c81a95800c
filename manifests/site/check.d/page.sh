# The page: parts, settings and images.

declare -A setting line_of known
parts=()

# Reads kustomization.yaml and the names that may be set there. A key at the left begins a section.
read_page() {
  [ -r kustomization.yaml ] || { echo "check: manifests/site/kustomization.yaml is missing" >&2; exit 1; }
  local name value section="" number=0 line
  while IFS='=' read -r name value; do
    [[ $name =~ ^[A-Z][A-Z0-9_]*$ ]] && known[$name]=$value
  done <defaults/settings.env
  while IFS= read -r line || [ -n "$line" ]; do
    number=$((number + 1))
    line=${line%$'\r'}
    [[ $line =~ ^[[:space:]]*# ]] && continue
    case $line in
    [a-zA-Z]*:*) section=${line%%:*} ;;
    \ *-\ *)
      line=$(trimmed "${line#*- }")
      case $section in
      components) parts+=("$line") ;;
      configMapGenerator) [[ $line == *=* || $line =~ ^[A-Z][A-Z0-9_]*$ ]] && read_setting "$line" "$number" ;;
      esac
      ;;
    esac
  done <kustomization.yaml
  [ "${#parts[@]}" -gt 0 ] || problem components "no component is on"
}

# The text of a list entry, without quotes and without a trailing comment.
trimmed() {
  local text=$1
  if [[ $text =~ ^\"([^\"]*)\" || $text =~ ^\'([^\']*)\' ]]; then
    text=${BASH_REMATCH[1]}
  else
    text=${text%%[[:space:]]#*}
  fi
  printf '%s' "${text%"${text##*[![:space:]]}"}"
}

read_setting() { # read_setting NAME=VALUE LINE
  local name=${1%%=*} value=${1#*=}
  if [[ $1 != *=* ]]; then
    problem "$1" "line $2 has no value: write $1=VALUE"
  elif [[ ! $name =~ ^[A-Z][A-Z0-9_]*$ ]]; then
    problem "$name" "line $2: a name consists of capital letters, digits and _, without a space before the ="
  elif [ -n "${line_of[$name]:-}" ]; then
    problem "$name" "it is set twice, in lines ${line_of[$name]} and $2"
  else
    setting[$name]=$value
    line_of[$name]=$2
  fi
}

on() { # on PART: whether it is one of the parts
  local part
  for part in "${parts[@]}"; do
    [ "$part" = "$1" ] || [ "$part" = "../components/$1" ] && return 0
  done
  return 1
}

# The effective value: the page's or the default.
value() { printf '%s' "${setting[$1]-${known[$1]-}}"; }

needs() { # needs PART OTHER…: the part needs one of the others, which must come before it
  on "$1" || return 0
  local part other seen=
  for part in "${parts[@]}"; do
    [ "$part" = "../components/$1" ] || [ "$part" = "$1" ] && break
    for other in "${@:2}"; do [ "$part" = "../components/$other" ] && seen=1; done
  done
  [ -n "$seen" ] && return 0
  for other in "${@:2}"; do
    if on "$other"; then problem "$1" "it changes $other, so its line must come after that of $other"; return 0; fi
  done
  problem "$1" "it needs ${*:2}, which is off: switch that on, or this part off"
}

excludes() { # excludes PART OTHER WHY
  if on "$1" && on "$2"; then problem "$1" "it can't be used together with $2: $3"; fi
  return 0
}

check_parts() {
  local part all=() name
  for part in ../components/*/ secrets/*/; do all+=("${part%/}"); done
  declare -A seen=()
  for part in "${parts[@]}"; do
    name=${part#../components/}
    [ -z "${seen[$part]:-}" ] || problem "$name" "its line appears twice"
    seen[$part]=1
    if [ ! -r "$part/kustomization.yaml" ]; then
      local like; like=$(nearest "$part" "${all[@]}")
      problem "$part" "there is no such component${like:+; did you mean $like?}"
    fi
  done
  [ "${parts[${#parts[@]} - 1]:-}" = wiring ] || problem wiring "it must be the last line of components, because it passes the settings to the parts before it"

  needs nfs-health-taint nfs-health
  needs fileserver-node-network fileserver
  needs hub-database-url hub
  needs firefly-shared firefly
  needs secrets/hub hub
  needs secrets/log-shipper log-shipper
  needs secrets/nginx nginx
  needs secrets/firefly firefly
  needs secrets/registry prepuller
  needs secrets/ingress ingress httproute gateway
  needs ingress-firefly firefly
  needs httproute-firefly firefly
  needs nginx-certificate nginx
  needs certificate ingress gateway httproute
  needs monitoring prepuller imagepurger log-shipper nfs-health fs-keepalive
  excludes monitoring monitoring-operator "Prometheus would scrape everything twice"
  excludes secrets/ingress certificate "both create the Secret tls"
  excludes secrets/nginx nginx-certificate "both create the Secret nginx-tls"
  if on gateway && ! on httproute; then problem gateway "without httproute it routes nothing"; fi
  if on hub && ! on nginx && ! on ingress && ! on httproute; then
    warn hub "none of nginx, ingress and httproute is on: users can reach the Hub only if you create a route yourself"
  fi
  if on imagepurger && ! on prepuller; then warn imagepurger "without prepuller there is no catalogue, so it removes nothing"; fi
  if on fileserver-claim && ! on keep-data; then warn fileserver-claim "without keep-data, kubectl delete -k also deletes the users' files"; fi
}

check_settings() {
  local name like
  for name in "${!setting[@]}"; do
    [ -n "${known[$name]+known}" ] && continue
    case $name in
    AMQP_PASSWORD) problem "$name" "it is a secret: write password= into secrets/log-shipper/amqp.env" ;;
    GITHUB_CLIENT_ID | GITHUB_CLIENT_SECRET | LOGIN_PASSWORD) problem "$name" "it is a secret: write it into secrets/hub/login.env" ;;
    JUPYTERHUB_CRYPT_KEY | CONFIGPROXY_AUTH_TOKEN) problem "$name" "it is a secret: write it into secrets/hub/hub.env" ;;
    ADMIN_PASSWORD) problem "$name" "it is a secret: write admin-password= into secrets/firefly/firefly.env" ;;
    GITHUB_ORGANIZATION_WHITELIST) problem "$name" "an old name: write GITHUB_ORGANIZATIONS" ;;
    JLD_INFRASTRUCTURE_IMAGES) problem "$name" "an old name: write LAB_INFRASTRUCTURE_IMAGES" ;;
    LAB_REPO_HOST | LAB_OWNER | LAB_REPO_NAME | PREPULLER_REPO | PREPULLER_PORT | PREPULLER_OWNER | PREPULLER_IMAGE_NAME) problem "$name" "an old name: write LAB_REPOSITORIES=REGISTRY/OWNER/NAME" ;;
    PREPULLER_INSECURE) problem "$name" "an old name: write LAB_INSECURE_REGISTRIES=HOST" ;;
    PREPULLER_RELEASES | PREPULLER_WEEKLIES | PREPULLER_DAILIES | PREPULLER_EXPERIMENTALS)
      problem "$name" "an old name: write LAB_KEEP=release=1,weekly=2,daily=3,experimental=0" ;;
    PREPULLER_IMAGE_LIST) problem "$name" "an old name: write LAB_INFRASTRUCTURE_IMAGES" ;;
    PREPULLER_NO_SCAN) problem "$name" "an old name: write LAB_CONTAINER_NAMES instead of LAB_REPOSITORIES" ;;
    RESTRICT_LAB_NODES) problem "$name" "an old name: write LAB_NODE_SELECTOR=LABEL=VALUE" ;;
    DEBUG) problem "$name" "an old name: write LOG=debug" ;;
    RABBITMQ_PAN_PASSWORD) problem "$name" "it is a secret: write password= into secrets/log-shipper/amqp.env" ;;
    RABBITMQ_TARGET_HOST | RABBITMQ_TARGET_VHOST | LOGSTASH_HOST | LOGSTASH_PORT) problem "$name" "an old name: write AMQP_URL=amqps://HOST/VHOST" ;;
    SESSION_DB_URL) problem "$name" "an old name: switch hub-database-url on, and write database-url= into secrets/hub/hub.env" ;;
    MAX_JVM_SIZE) problem "$name" "an old name: patch Firefly's memory limit; MAX_RAM_PERCENT is its share" ;;
    FIREFLY_OPTS) problem "$name" "an old name: write VISUALIZE_FITS_SEARCH_PATH" ;;
    MANAGER | PREPULLER_SORT_FIELD | PREPULLER_COMMAND | PREPULLER_NAMESPACE) problem "$name" "it no longer has an effect: remove it" ;;
    HOSTNAME) problem "$name" "an old name: write SITE_HOST" ;;
    *)
      like=$(nearest "$name" "${!known[@]}")
      problem "$name" "line ${line_of[$name]}: there is no such setting${like:+; did you mean $like?}"
      ;;
    esac
  done
  . ./check.d/settings.sh
}

image_field() { # image_field FIELD LINE: its value in a line of images
  [[ $2 =~ [\{,\ ]$1:\ *[\"\']?([^\ ,\}\"\']*) ]] && printf '%s' "${BASH_REMATCH[1]}"
}

check_images() {
  local image line name digest
  declare -A seen=()
  for image in prepuller:prepuller imagepurger:imagepurger log-shipper:log-shipper fs-keepalive:fs-keepalive \
    nfs-health:nfs-health nfs-volumes:nfs-health fileserver:fileserver; do
    on "${image%%:*}" || continue
    image=${image#*:}
    [ -z "${seen[$image]:-}" ] || continue
    seen[$image]=1
    line=$(grep -E "^ *- .*name: *\"?labhands/$image\"?[ ,}]" kustomization.yaml | grep -v '^ *#' | head -n 1)
    case $line in
    "") problem images "labhands/$image has no line, so nodes would pull it from Docker Hub" ;;
    *registry.example.org*) problem images "labhands/$image still has the example's value: write your registry's name" ;;
    *newTag:*latest*) warn images "labhands/$image: the tag latest does not show which build runs; write a version or a digest" ;;
    esac
    name=$(image_field newName "$line")
    [[ -z $name || $name =~ ^[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$ ]] ||
      problem images "labhands/$image: newName \"$name\" is not REGISTRY/OWNER/NAME in lowercase letters, without scheme and tag; a tag is newTag's, a digest is digest's"
    digest=$(image_field digest "$line")
    [[ -z $digest || $digest =~ ^sha256:[0-9a-f]{64}$ ]] ||
      problem images "labhands/$image: digest \"$digest\" is not sha256: and 64 hexadecimal digits in lowercase"
    [[ ! $line =~ newTag:\ *[0-9]+(\.[0-9]+)?([eE][0-9]+)?\ *[,}] ]] ||
      problem images "labhands/$image: YAML reads this newTag as a number: write it in quotes"
  done
}
