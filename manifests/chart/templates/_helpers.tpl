{{/* The reference of an image: (list . NAME) */}}
{{- define "labhands.image" -}}
{{- $root := index . 0 }}
{{- $name := index . 1 }}
{{- $image := index $root.Values.images $name }}
{{- $repository := $image.repository }}
{{- if not $repository }}
{{- $prefix := required "imagePrefix is missing: set it to the registry that images/bld pushed to, such as registry.example.org/labhands" $root.Values.imagePrefix }}
{{- $repository = printf "%s/%s" (trimSuffix "/" $prefix) $name }}
{{- end }}
{{- if $image.digest -}}
{{ $repository }}@{{ $image.digest }}
{{- else -}}
{{ $repository }}:{{ $image.tag | default $root.Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* A setting as text: (list . NAME). YAML makes whole numbers of values into floats, which print as 1e+06. */}}
{{- define "labhands.setting" -}}
{{- $value := index (index . 0).Values.settings (index . 1) }}
{{- if kindIs "float64" $value }}{{ int64 $value }}
{{- else if not (kindIs "invalid" $value) }}{{ $value }}
{{- end }}
{{- end }}
