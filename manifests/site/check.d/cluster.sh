# Whether the page builds, and what the cluster lacks for it.

built=

check_build() {
  # Earlier checks have reported the reason in better words.
  [ "$problems" = 0 ] || return 1
  if built=$(kubectl kustomize . 2>&1); then check_patches; return 0; fi
  problem kustomization.yaml "it does not build: $(short_error "$built")"
  return 1
}

# kustomize says nothing of a patch whose target is nowhere.
check_patches() {
  local kind namespace name target place all
  all=$(objects)
  for target in ${patches[@]+"${patches[@]}"}; do
    read -r kind namespace name <<<"$target"
    [ "$namespace" = '.*' ] && place= || place=" in the namespace $namespace"
    # A ConfigMap's name may have a suffix by now.
    grep -qE "^($kind) ($namespace) ($name)(-[0-9a-z]{10})?\$" <<<"$all" ||
      warn patches "the page has no $kind $name${place}, so this patch has no effect"
  done
}

# KIND NAMESPACE NAME of each object, one per line.
objects() {
  awk '/^---$/ { print kind, namespace, name; kind = namespace = name = "" }
    /^[a-z]/ { section = $1 }
    /^kind: / { kind = $2 }
    section == "metadata:" && /^  name: / { name = $2 }
    section == "metadata:" && /^  namespace: / { namespace = $2 }
    END { print kind, namespace, name }' <<<"$built"
}

# "No answer" does not mean "no".
has_kind() { [[ $(kubectl get "$1" -A --request-timeout=10s 2>&1 >/dev/null) != *"the server doesn't have a resource type"* ]]; }

is_missing() { # is_missing NAMESPACE KIND NAME
  [[ $(kubectl -n "$1" get "$2" "$3" --request-timeout=10s 2>&1 >/dev/null) == *"(NotFound)"* ]]
}

must_have_kind() { # must_have_kind RESOURCE PART WHAT
  has_kind "$1" || problem "$2" "the cluster does not know $1: install $3 first"
}

check_cluster() {
  local version
  if ! version=$(kubectl get --raw /version --request-timeout=10s 2>/dev/null); then
    warn cluster "kubectl can't reach a cluster: only the page and its secrets were checked"
    return 0
  fi
  version=$(sed -n 's/.*"minor": *"\([0-9]*\).*/\1/p' <<<"$version")
  [ "${version:-30}" -ge 30 ] || problem cluster "Kubernetes 1.$version has no ValidatingAdmissionPolicy v1: you need 1.30 or newer"

  if on gateway || on httproute; then must_have_kind httproutes.gateway.networking.k8s.io httproute "the CRDs of the Gateway API"; fi
  if on certificate || on nginx-certificate; then must_have_kind certificates.cert-manager.io certificate cert-manager; fi
  on monitoring-operator && must_have_kind podmonitors.monitoring.coreos.com monitoring-operator "the Prometheus operator"
  on ingress && [ -z "$(kubectl get ingressclass -o name 2>/dev/null)" ] && problem ingress "the cluster has no IngressClass, so no controller would serve the Ingress"
  check_storage
  check_claims
  check_server
  check_made_secrets
  if [ "$(kubectl get nodes -o jsonpath='{range .items[*]}{.status.nodeInfo.architecture}{"\n"}{end}' 2>/dev/null | sort -u | grep -c .)" -gt 1 ]; then
    warn nodes "the nodes have several architectures: build the images for each"
  fi
  check_dry_run
}

# A claim without a class waits forever if no class is the default.
check_storage() {
  local default claim
  default=$(kubectl get storageclass -o jsonpath='{range .items[*]}{.metadata.annotations.storageclass\.kubernetes\.io/is-default-class}{"\n"}{end}' 2>/dev/null | grep -c true)
  [ "$default" = 0 ] || return 0
  while IFS= read -r claim; do
    [ -z "$claim" ] || problem "$claim" "the claim has no storage class, and the cluster has no default class: set storageClassName with a patch"
  done < <(awk -v RS='---\n' '/(^|\n)kind: PersistentVolumeClaim\n/ && !/storageClassName:/ { match($0, /\n  name: [^\n]+/); print substr($0, RSTART + 9, RLENGTH - 9) }' <<<"$built")
}

# The namespaces that the page creates, one per line.
namespaces() { awk -v RS='---\n' '/(^|\n)kind: Namespace\n/ { match($0, /\n  name: [^\n]+/); print substr($0, RSTART + 9, RLENGTH - 9) }' <<<"$built"; }

# nfs-volumes creates claims only in namespaces that exist.
check_claims() {
  local claim namespace
  if on fileserver && ! on fileserver-claim && is_missing labhands-fileserver persistentvolumeclaim fileserver; then
    problem fileserver "its claim labhands-fileserver/fileserver is missing: switch fileserver-claim on, or apply overlays/fileserver-claim first"
  fi
  on nfs-volumes || return 0
  for claim in $(value VOLUME_CLAIM | tr ',' ' '); do
    namespace=${claim%%/*}
    namespaces | grep -qx "$namespace" || ! is_missing "$namespace" namespace "$namespace" ||
      problem VOLUME_CLAIM "the namespace $namespace exists neither in the cluster nor on the page"
  done
}

# A file server of the site's own has a Service already.
check_server() {
  on nfs-volumes && ! on fileserver || return 0
  local service; service=$(value NFS_SERVICE)
  ! is_missing "${service%%/*}" service "${service#*/}" ||
    problem NFS_SERVICE "the cluster has no Service $service: create it first, as docs/fileserver.md shows under \"A server of your own\""
}

# Secrets that must exist already, because no file creates them.
check_made_secrets() {
  local part namespace name
  while read -r part namespace name; do
    on "$part" && ! on "secrets/$part" || continue
    if [ "$name" = registry ] && { [[ $(value REGISTRY_AUTH_FILE) != /etc/labhands/registry/* ]] || on secrets/registry; }; then continue; fi
    if [ "$name" = amqp ] && [[ $(value AMQP_PASSWORD_FILE)$(value AMQP_CERT_FILE) != /etc/labhands/amqp/* ]]; then continue; fi
    if [ "$part" = nginx ] && on nginx-certificate; then continue; fi
    if [ "$name" = tls ] && { on secrets/ingress || on certificate; }; then continue; fi
    ! is_missing "$namespace" secret "$name" ||
      problem "$part" "the Secret $name is missing in the namespace $namespace: switch its line below secrets/ on, or create the Secret"
  done <<'LIST'
prepuller labhands registry
prepuller labhands-node registry
log-shipper labhands-node amqp
hub jupyter hub
hub jupyter hub-login
nginx labhands nginx-tls
firefly firefly firefly
ingress jupyter tls
gateway jupyter tls
LIST
}

# The API server's own answer. Namespaces of the page that do not exist yet are not an error.
check_dry_run() {
  local line
  while IFS= read -r line; do
    case $line in
    # kubectl prints the whole patch around the reason why it is refused.
    "" | \{* | [\ +@-]* | to: | Resource:* | Name:* | *"error when applying patch:") continue ;;
    for:*) line=${line#*error when patching } line=${line#*: } ;;
    esac
    [[ $line =~ namespaces\ \"([a-z0-9-]+)\"\ not\ found ]] && namespaces | grep -qx "${BASH_REMATCH[1]}" && continue
    problem "kubectl apply" "$line"
  done < <(kubectl apply -k . --dry-run=server 2>&1 >/dev/null | grep -v '^Warning:\|no matches for kind\|ensure CRDs are installed\|resource mapping not found' | sed 's/^Error from server //')
}
