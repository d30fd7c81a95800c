# The page: parts, settings and images.

declare -A setting known
parts=() paths=() images=() patches=()

# kubectl reads the page, so that this check sees the same values as kustomize, however they are written in YAML.
page_as_records='
{{- range .patches}}{{with .target}}{{printf "patch\x1f%v %v %v\x1e" (or .kind ".*") (or .namespace ".*") (or .name ".*")}}{{end}}{{end}}
{{- range $name, $value := .}}{{printf "field\x1f%v\x1e" $name}}{{end}}
{{- range .resources}}{{printf "resource\x1f%v\x1e" .}}{{end}}
{{- range .components}}{{printf "part\x1f%v\x1e" .}}{{end}}
{{- range .replacements}}{{printf "replacement\x1f%v\x1e" .path}}{{end}}
{{- range .labels}}{{if .includeSelectors}}{{printf "field\x1flabels with includeSelectors\x1e"}}{{end}}{{end}}
{{- range .configMapGenerator}}{{if eq (printf "%v" .name) "site"}}{{printf "site\x1f%v %v\x1e" .namespace .behavior}}
{{- range .literals}}{{if eq (printf "%T" .) "string"}}{{printf "setting\x1f%v\x1e" .}}{{else}}{{printf "other\x1f%v\x1e" .}}{{end}}{{end}}{{range .envs}}{{printf "file\x1f%v\x1e" .}}{{end}}{{end}}{{end}}
{{- range .images}}{{printf "image\x1f%v\x1f%v\x1f%v\x1f%v\x1f%T\x1f%T\x1e" .name .newName .newTag .digest .newTag .digest}}{{end}}'

# Reads kustomization.yaml and the names that may be set there.
read_page() {
  local name value records kind text line place="" replaced="" base="" fields=()
  while IFS='=' read -r name value; do
    [[ $name =~ ^[A-Z][A-Z0-9_]*$ ]] && known[$name]=$value
  done <defaults/settings.env
  [ -f kustomization.yaml ] && [ -r kustomization.yaml ] || { problem kustomization.yaml "the page is missing, or it is not a readable file"; return 1; }
  if ! records=$(kubectl annotate --local -f kustomization.yaml labhands.dev/check=1 -o go-template="$page_as_records" 2>&1); then
    problem kustomization.yaml "it can't be read: $(short_error "$records")"
    return 1
  fi
  while IFS=$'\x1f' read -r -d $'\x1e' kind text; do
    case $kind in
    field) fields+=("$text") ;;
    resource) [ "$(canonical "$text")" = defaults ] && base=1 ;;
    part) parts+=("$(canonical "$text")") paths+=("$text") ;;
    replacement) [ "${text#./}" = wiring/replacements.yaml ] && replaced=1 ;;
    site) place=$text ;;
    setting) read_setting "$text" ;;
    other) problem literals "YAML reads one entry as ${text//[[:cntrl:]]/ } and not as text: write NAME=VALUE, in quotes if it contains a colon and a blank" ;;
    patch) patches+=("$text") ;;
    file)
      [ -r "$text" ] || { problem envs "the file $text is missing"; continue; }
      while IFS= read -r line || [ -n "$line" ]; do
        line=${line%$'\r'}
        [[ -z $line || $line == \#* ]] || read_setting "$line"
      done <"$text" ;;
    image) images+=("$text") ;;
    esac
  done <<<"$records"
  check_fields ${fields[@]+"${fields[@]}"}
  [ -n "$base" ] || problem resources "it lacks defaults, which has the settings' defaults and the base"
  [ -n "$replaced" ] || problem replacements "it lacks \"- path: wiring/replacements.yaml\", so no setting would reach a daemon"
  [ "$place" = "labhands merge" ] || problem configMapGenerator "the entry with the settings needs name: site, namespace: labhands and behavior: merge"
}

# Fields of the page that kustomize would drop, and those that change names inside policies, roles and settings.
check_fields() {
  local name like fields=(apiVersion kind metadata resources components configMapGenerator secretGenerator generatorOptions images patches
    patchesStrategicMerge patchesJson6902 replacements replicas labels commonAnnotations configurations crds generators transformers validators
    helmCharts helmGlobals openapi buildMetadata sortOptions vars bases)
  for name in "$@"; do
    case $name in
    namespace | namePrefix | nameSuffix) problem "$name" "remove it: it would also change names inside policies, roles and settings, so parts would no longer find each other" ;;
    commonLabels | "labels with includeSelectors") problem "$name" "it would change selectors, and network policies would no longer match the labs: use labels with includeSelectors: false" ;;
    *)
      [[ " ${fields[*]} " == *" $name "* ]] && continue
      like=$(nearest "$name" "${fields[@]}")
      problem "$name" "kustomize has no such field${like:+; did you mean $like?}" ;;
    esac
  done
  while IFS= read -r name; do
    [ -z "$name" ] || problem kustomization.yaml "$name"
  done < <(repeated_keys <kustomization.yaml)
}

# Of a key that appears twice, kustomize silently uses one; and it ignores all but the first document.
repeated_keys() {
  awk '{ sub(/\r$/, "") }
    /^---/ && keys { print "line " NR ": a second document begins, which kustomize ignores: remove the line"; exit }
    text >= 0 && (match($0, /[^ ]/) - 1 > text || /^ *$/) { next }
    { text = -1 }
    /^ *(#|$)/ { next }
    {
      line = $0; at = match(line, /[^ ]/) - 1
      while (line ~ /^ *- /) {
        for (key in seen) { split(key, part, SUBSEP); if (part[1] > at) delete seen[key] }
        dash = at; sub(/- /, "  ", line); at = match(line, /[^ ]/) - 1
      }
      if (line ~ /^ *[|>][-+0-9]*( +#.*)?$/) text = dash
      if (line !~ /^ *[A-Za-z0-9_.\/-]+:( |$)/) next
      for (key in seen) { split(key, part, SUBSEP); if (part[1] > at) delete seen[key] }
      key = line; sub(/:.*/, "", key); gsub(/ /, "", key); keys = 1
      if ((at, key) in seen) print "line " NR ": " key " is there already, in line " seen[at, key] ": merge the two, because only one would count"
      seen[at, key] = NR
      if (line ~ /[|>][-+0-9]*( +#.*)?$/) text = at
    }
    BEGIN { text = -1 }'
}

# What kubectl says in one line, without its own log prefix and without the page's text.
short_error() {
  sed -e 's/^error: //' -e 's/^.*"command failed" err=//' -e 's/^.*: yaml: //' -e "s/Object 'Kind' is missing in .*/the line kind: Kustomization is missing/" <<<"$1" |
    sed -n -e 's/^[[:space:]<>]*//' -e 's/[[:space:]]*$//' -e '/[^"]/p' | head -n 20 | paste -s -d ' ' -
}

# A component's path as this check names it: ../components/NAME or secrets/NAME, wherever the folder is.
canonical() {
  local path=${1%%\?*} here
  path=${path%/}
  case $path in
  */components/*) printf '../components/%s' "${path##*/components/}" ;;
  *)
    here=$(cd "$path" 2>/dev/null && pwd -P) || { printf '%s' "$path"; return; }
    printf '%s' "${here#"$(pwd -P)/"}" ;;
  esac
}

lines_of() { # lines_of NAME: the lines of the page that set it
  grep -nE "^[^#]*(^|[^A-Za-z0-9_])$1 *=" kustomization.yaml | cut -d : -f 1 | paste -s -d , - | sed 's/,/ and /g'
}

read_setting() { # read_setting NAME=VALUE
  local name=${1%%=*} value=${1#*=}
  if [[ $1 != *=* ]]; then
    problem "${1//[[:cntrl:]]/ }" "it has no value: write ${1//[[:cntrl:]]/ }=VALUE"
  elif [[ ! $name =~ ^[A-Z][A-Z0-9_]*$ ]]; then
    problem "${name//[[:cntrl:]]/ }" "a name consists of capital letters, digits and _, without a space before the ="
  elif [ -n "${setting[$name]+set}" ]; then
    problem "$name" "it is set twice, in lines $(lines_of "$name")"
  else
    setting[$name]=$value
  fi
}

on() { # on PART: whether it is one of the parts
  local part
  for part in ${parts[@]+"${parts[@]}"}; do
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
    if [ "$part" = "../components/$1" ] || [ "$part" = "$1" ]; then break; fi
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

kustomization_of() { # kustomization_of FOLDER: its file, if there is one
  local name
  for name in kustomization.yaml kustomization.yml Kustomization; do
    [ -r "$1/$name" ] && { printf '%s' "$1/$name"; return; }
  done
}

check_parts() {
  local number part path all=() name like
  declare -A seen=()
  for part in ../components/*/ secrets/*/; do all+=("${part%/}"); done
  for number in ${parts[@]+"${!parts[@]}"}; do
    part=${parts[$number]} path=${paths[$number]} name=${part#../components/}
    [ -z "${seen[$part]:-}" ] || problem "$name" "its line appears twice"
    seen[$part]=1
    # kustomize fetches an address itself.
    [[ $path == *://* || $path == *@*:* ]] && continue
    if [ -n "$(kustomization_of "$path")" ]; then
      grep -qE '^kind: *"?Component' "$(kustomization_of "$path")" || problem "$path" "it is not a component; an overlay already contains the base: write ../components/NAME"
      continue
    fi
    if [ ! -d ../components ]; then
      problem components "there is no folder ../components: copy the whole folder manifests, not only site"
      return
    fi
    like=$(nearest "$part" "${all[@]}")
    problem "$part" "there is no such component${like:+; did you mean $like?}"
  done
  if [[ " ${parts[*]-} " != *" ../components/"* ]]; then
    problem components "no component is on"
    return
  fi
  [ "${parts[${#parts[@]} - 1]}" = wiring ] || problem wiring "it must be the last line of components, because it passes the settings to the parts before it"

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
  if on nginx && { on ingress || on gateway || on httproute; }; then
    warn nginx "a controller's route is on, too: leave on only the one that SITE_HOST leads to in DNS"
  fi
  if on ingress && { on gateway || on httproute; }; then
    warn ingress "a Gateway's route is on, too: leave on only the one that SITE_HOST leads to in DNS"
  fi
  if on gateway && ! on httproute; then problem gateway "without httproute it routes nothing"; fi
  if on hub && ! on nginx && ! on ingress && ! on httproute; then
    warn hub "none of nginx, ingress and httproute is on: users can reach the Hub only if you create a route yourself"
  fi
  if on imagepurger && ! on prepuller; then warn imagepurger "without prepuller there is no catalogue, so it removes nothing"; fi
  if on fileserver-claim && ! on keep-data; then warn fileserver-claim "without keep-data, kubectl delete -k also deletes the users' files"; fi
}

check_settings() {
  local name like lines
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
      like=$(nearest "$name" "${!known[@]}") lines=$(lines_of "$name")
      problem "$name" "${lines:+line $lines: }there is no such setting${like:+; did you mean $like?}"
      ;;
    esac
  done
  . ./check.d/settings.sh
}

check_images() {
  local image entry name new tag digest tag_type digest_type like ours=(prepuller imagepurger log-shipper fs-keepalive nfs-health fileserver)
  declare -A line=()
  for entry in ${images[@]+"${images[@]}"}; do
    name=${entry%%$'\x1f'*}
    [ -z "${line[$name]:-}" ] || problem images "$name has two lines: remove one"
    line[$name]=$entry
    if [[ $name == labhands/* && " ${ours[*]} " != *" ${name#labhands/} "* ]]; then
      like=$(nearest "$name" "${ours[@]/#/labhands/}")
      problem images "$name: there is no such image${like:+; did you mean $like?}"
    fi
  done
  for image in "${ours[@]}"; do
    on "$image" || { [ $image = nfs-health ] && on nfs-volumes; } || continue
    name=labhands/$image
    [ -n "${line[$name]:-}" ] || { problem images "$name has no line, so nodes would pull it from Docker Hub"; continue; }
    IFS=$'\x1f' read -r -d '' _ new tag digest tag_type digest_type <<<"${line[$name]}"
    digest_type=${digest_type%$'\n'}
    new=${new#<nil>} tag=${tag#<nil>} digest=${digest#<nil>}
    case $new in
    "" | labhands/*) problem images "$name: newName does not name your registry, so nodes would pull it from Docker Hub" ;;
    *registry.example.org*) problem images "$name still has the example's value: write your registry's name" ;;
    esac
    [[ -z $new || $new =~ ^[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$ ]] ||
      problem images "$name: newName \"$new\" is not REGISTRY/OWNER/NAME in lowercase letters, without scheme and tag; a tag is newTag's, a digest is digest's"
    [[ ${new##*/} == "$image" || " ${ours[*]} " != *" ${new##*/} "* ]] ||
      problem images "$name: newName \"$new\" is another daemon's image"
    [[ -z $digest || $digest =~ ^sha256:[0-9a-f]{64}$ ]] ||
      problem images "$name: digest \"$digest\" is not sha256: and 64 hexadecimal digits in lowercase"
    if [[ $tag_type != string && $tag_type != *nil* ]]; then
      problem images "$name: YAML reads this newTag as ${tag_type/#*[0-9]/a number}, not as text: write it in quotes"
    elif [[ -n $tag && ! $tag =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$ ]]; then
      problem images "$name: newTag \"$tag\" is not a tag: a digest is digest's"
    elif [[ $tag == *latest* && -z $digest ]]; then
      warn images "$name: the tag $tag does not show which build runs; write a version or a digest"
    fi
  done
}
