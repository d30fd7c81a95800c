# What is not ready, with the pods' own messages, and the site's address.

ours=app.kubernetes.io/part-of=labhands

check_ready() {
  kubectl get --raw /version --request-timeout=10s >/dev/null 2>&1 || { problem cluster "kubectl can't reach a cluster"; return; }
  local kind namespace name ready wanted any=
  while read -r kind namespace name ready wanted; do
    any=1
    [ "${wanted:-0}" = 0 ] && [ "$kind" = DaemonSet ] && warn "$namespace/$name" "it has no pods, because no node matches: check its nodeSelector and the nodes' taints"
    [ "${ready:-0}" -ge "${wanted:-0}" ] || tell_pods "$kind" "$namespace" "$name" "${ready:-0}" "$wanted"
  done < <(kubectl get deployments,daemonsets,statefulsets -A -l "$ours" -o go-template='{{range .items}}{{.kind}} {{.metadata.namespace}} {{.metadata.name}} {{if eq .kind "DaemonSet"}}{{or .status.numberReady 0}} {{or .status.desiredNumberScheduled 0}}{{else}}{{or .status.readyReplicas 0}} {{or .spec.replicas 0}}{{end}}
{{end}}')
  [ -n "$any" ] || problem cluster "no part of the page is in the cluster: run kubectl apply -k manifests/site"
  check_bound
}

tell_pods() { # tell_pods KIND NAMESPACE NAME READY WANTED
  local pod selector why said=0
  selector=$(kubectl -n "$2" get "$1" "$3" -o go-template='{{range $key, $value := .spec.selector.matchLabels}}{{$key}}={{$value}},{{end}}')
  # A pod that is not scheduled has no condition Ready at all.
  while read -r pod; do
    [ -n "$pod" ] || continue
    why=$(why_not "$2" "$pod")
    [ -n "$why" ] || continue
    said=$((said + 1))
    [ $said -le 3 ] || continue
    problem "$2/$3" "$4 of $5 pods are ready. $pod: $(head -n 1 <<<"$why")"
    tail -n +2 <<<"$why" | while IFS= read -r line; do [ -z "$line" ] || note "$line"; done
  done < <(kubectl -n "$2" get pods -l "${selector%,}" -o go-template='{{range .items}}{{$ready := false}}{{range .status.conditions}}{{if and (eq .type "Ready") (eq .status "True")}}{{$ready = true}}{{end}}{{end}}{{if not $ready}}{{.metadata.name}}
{{end}}{{end}}')
  [ $said -le 3 ] || note "and $((said - 3)) more of its pods"
  [ $said = 0 ] || return
  # No pod at all: the controller reports quotas, policies and webhooks.
  why=$(kubectl -n "$2" get events --field-selector reason=FailedCreate -o go-template='{{range .items}}{{.involvedObject.name}} {{.message}}
{{end}}' | grep -E "^$3(-[a-z0-9]+)? " | tail -n 1)
  why=${why#* } why=${why#(combined from similar events): } why=${why#Error creating: }
  [ -n "$why" ] && why="no pod can be created: $why" || why="its pods are still being created"
  problem "$2/$3" "$4 of $5 pods are ready. $why"
}

# Why a pod is not ready: its container's last message, what it waits for, or the answer of its /readyz.
why_not() { # why_not NAMESPACE POD
  local words
  words=$(kubectl -n "$1" get pod "$2" -o go-template='{{range .status.conditions}}{{if and (eq .type "PodScheduled") (eq .status "False")}}no node accepts it: {{.message}}
{{end}}{{end}}{{range .status.initContainerStatuses}}{{with .state.waiting}}{{.reason}}: {{or .message "it waits"}}
{{end}}{{end}}{{range .status.containerStatuses}}{{$last := .lastState.terminated}}{{with .state.terminated}}it ended with exit code {{.exitCode}}{{if eq (printf "%v" .exitCode) "64"}}, which means wrong settings{{end}}
{{or .message ""}}
{{end}}{{with .state.waiting}}{{if $last}}it ended with exit code {{$last.exitCode}}{{if eq (printf "%v" $last.exitCode) "64"}}, which means wrong settings{{end}}
{{or $last.message ""}}
{{else}}{{.reason}}: {{or .message "it is being created"}}
{{end}}{{end}}{{end}}' 2>/dev/null | sed -E -e '/^no node accepts it/s/\. (not found|no new claims|preemption:).*//' -e '/^$/d')
  if [ -z "$words" ]; then
    # The daemons answer with the reason; for other programs there is an Event with kubelet's words.
    if [ -n "$(kubectl -n "$1" get pod "$2" -o go-template='{{range .spec.containers}}{{range .ports}}{{if eq .name "admin"}}{{.name}}{{end}}{{end}}{{end}}' 2>/dev/null)" ]; then
      words=$(readiness_of "$1" "$2")
    else
      words=$(events_of "$1" "$2" reason=Unhealthy)
    fi
    words="it runs but is not ready: ${words:-it has just started}"
  fi
  case $words in
  ErrImagePull* | ImagePullBackOff*) words=$(pull_error "$1" "$2" "${words%%$'\n'*}") ;;
  # Only Events report mounts that wait.
  ContainerCreating* | PodInitializing*)
    local event
    event=$(events_of "$1" "$2" type=Warning)
    [ -z "$event" ] || words="${words%%:*}: $event" ;;
  esac
  printf '%s\n' "$words"
}

# Of what kubelet says about an image, its name and the last reason. While it waits to try again, kubelet may leave out the reason.
pull_error() { # pull_error NAMESPACE POD WORDS
  local image reason
  image=$(sed -n 's/^[^"]*image "\([^"]*\)".*/\1/p' <<<"$3")
  reason=${3##*"$image\": "}
  [ "$reason" != "$3" ] || reason=$(events_of "$1" "$2" reason=Failed | sed "s|.*$image\": ||")
  reason=${reason##*"$image: "}
  reason=${reason#failed to resolve reference *: } reason=${reason#failed to resolve image: }
  printf "its image %s can't be pulled: %s" "${image:-}" "${reason:-${3#*: }}"
}

# What a daemon that is not ready answers; nothing if it is ready by now. kubectl shows the body of an error only in its debug output.
readiness_of() { # readiness_of NAMESPACE POD
  local said body
  said=$(kubectl get --raw "/api/v1/namespaces/$1/pods/$2:8080/proxy/readyz" --request-timeout=10s -v=4 2>&1) && return
  body=$(sed -n '/"reason": "UnexpectedServerResponse"/{n;s/^ *"message": "\(.*\)",*$/\1/p;}' <<<"$said")
  body=${body//\\n/$'\n'}
  [ -n "$body" ] || body=$(tail -n 1 <<<"$said" | sed 's/^Error from server ([A-Za-z]*): //')
  head -n 5 <<<"${body//\\\"/\"}"
}

events_of() { # events_of NAMESPACE NAME FIELD=VALUE: the message of the last one
  kubectl -n "$1" get events --field-selector "involvedObject.name=$2,$3" -o go-template='{{range .items}}{{.message}}
{{end}}' | tail -n 1
}

check_bound() {
  local namespace name phase why
  while read -r namespace name phase; do
    [ "$phase" != Bound ] && [ -n "$name" ] || continue
    why=$(events_of "$namespace" "$name" involvedObject.kind=PersistentVolumeClaim)
    problem "$namespace/$name" "the claim is $phase: ${why:-run kubectl -n $namespace describe persistentvolumeclaim $name to see what it waits for}"
  done < <(kubectl get persistentvolumeclaims -A -l "$ours" -o go-template='{{range .items}}{{.metadata.namespace}} {{.metadata.name}} {{.status.phase}}
{{end}}')
}

# What to put into DNS for SITE_HOST.
show_addresses() {
  local found
  if on nginx; then
    found=$(kubectl -n labhands get service nginx -o go-template='{{range .status.loadBalancer.ingress}}{{or .ip .hostname}} {{end}}{{range .spec.externalIPs}}{{.}} {{end}}' 2>/dev/null)
    if [ -n "$found" ]; then
      note "DNS: $(value SITE_HOST) is at $found"
    else
      note "DNS: the load balancer has no address yet. If the cluster has none, use the patch for externalIPs in docs/walkthrough.md, because logins need port 443; nginx also has port $(kubectl -n labhands get service nginx -o go-template='{{range .spec.ports}}{{if eq .name "https"}}{{.nodePort}}{{end}}{{end}}' 2>/dev/null) of every node"
    fi
  fi
  if on ingress; then
    found=$(kubectl -n jupyter get ingress jupyterhub -o go-template='{{range .status.loadBalancer.ingress}}{{or .ip .hostname}} {{end}}' 2>/dev/null)
    [ -n "$found" ] && note "DNS: $(value SITE_HOST) is at $found" || problem jupyter/jupyterhub "no controller has given the Ingress an address"
  fi
  if on gateway; then
    found=$(kubectl -n jupyter get gateway labhands -o go-template='{{range .status.addresses}}{{.value}} {{end}}' 2>/dev/null)
    [ -n "$found" ] && note "DNS: $(value SITE_HOST) is at $found" || problem jupyter/labhands "no controller has given the Gateway an address"
  fi
  return 0
}
