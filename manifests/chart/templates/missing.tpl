{{- /* What a component needs, said before anything is installed. An Ingress without a host would answer for every name. */}}
{{- range list "hub" "ingress" "gateway" "httproute" "certificate" "nginx-certificate" "ingress-firefly" "httproute-firefly" }}
{{- if and (index $.Values.components .) (not $.Values.settings.SITE_HOST) }}
{{- fail (printf "settings.SITE_HOST is missing: the component %s needs the host name of the Hub, such as hub.example.org" .) }}
{{- end }}
{{- end }}
{{- if and $.Values.components.gateway (not $.Values.settings.GATEWAY_CLASS) }}
{{- fail "settings.GATEWAY_CLASS is missing: the component gateway needs its class; kubectl get gatewayclass lists them" }}
{{- end }}
{{- range $part, $other := dict "nfs-health-taint" "nfs-health" "fileserver-node-network" "fileserver" "hub-database-url" "hub" "firefly-shared" "firefly" }}
{{- if and (index $.Values.components $part) (not (index $.Values.components $other)) }}
{{- fail (printf "the component %s changes %s, which is off: set components.%s: true" $part $other $other) }}
{{- end }}
{{- end }}
