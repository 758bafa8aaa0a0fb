{{- define "hf-agent.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "hf-agent.fullname" -}}
{{- $name := include "hf-agent.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "hf-agent.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "hf-agent.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "hf-agent.selectorLabels" -}}
app.kubernetes.io/name: {{ include "hf-agent.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "hf-agent.labels" -}}
{{ include "hf-agent.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "hf-agent.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion }}
{{- printf "%s:%s" .Values.image.repository $tag }}
{{- with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* A duration of the configuration in seconds; what is made of a variable counts as 0. */}}
{{- define "hf-agent.seconds" -}}
{{- $units := dict "" 1.0 "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 "d" 86400.0 }}
{{- $text := toString . | lower | nospace }}
{{- $number := regexFind "^[0-9]+([.][0-9]+)?" $text }}
{{- mulf (float64 ($number | default "0")) (get $units (trimPrefix $number $text) | default 0.0) }}
{{- end }}

{{/* A value as TOML. Strings of JSON are strings of TOML; numbers of values are floats in Helm. */}}
{{- define "hf-agent.toml.value" -}}
{{- if kindIs "map" . }}
{{- $pairs := list }}
{{- range $key, $value := . }}
{{- $pairs = append $pairs (printf "%s = %s" $key (include "hf-agent.toml.value" $value)) }}
{{- end }}
{{- printf "{%s}" (join ", " $pairs) }}
{{- else if kindIs "slice" . }}
{{- $items := list }}
{{- range . }}
{{- $items = append $items (include "hf-agent.toml.value" .) }}
{{- end }}
{{- printf "[%s]" (join ", " $items) }}
{{- else if kindIs "float64" . }}
{{- if eq . (floor .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- else }}
{{- toJson . }}
{{- end }}
{{- end }}

{{/* The keys of one table, a line each; tables within it stand on its lines. */}}
{{- define "hf-agent.toml.keys" -}}
{{- range $key, $value := . }}
{{ $key }} = {{ include "hf-agent.toml.value" $value }}
{{- end }}
{{- end }}

{{- define "hf-agent.toml" -}}
{{- $config := .Values.config }}
{{- $url := required "set config.store.url, as s3://my-bucket/logs or file:///srv/hf-agent" $config.store.url -}}
{{- if and (hasPrefix "file:" $url) (not .Values.storeVolume) }}
{{- fail (printf "config.store.url is %s: give storeVolume, or the logs are lost with the pod" $url) }}
{{- end -}}
[agent]
node = "${NODE_NAME}"
data_dir = "/var/lib/hf-agent"
{{- include "hf-agent.toml.keys" $config.agent }}
{{- range $config.listen }}

[[listen]]
{{- include "hf-agent.toml.keys" . }}
{{- end }}
{{- range $name := list "wal" "flush" "store" "log" }}
{{- with index $config $name }}

[{{ $name }}]
{{- include "hf-agent.toml.keys" . }}
{{- end }}
{{- end }}

[http]
listen = ":{{ int $.Values.port }}"
{{- end }}

{{/* agent.toml: what is given whole, or made of `config`. */}}
{{- define "hf-agent.file" -}}
{{- if .Values.rawConfig }}
{{- .Values.rawConfig | trim }}
{{- else }}
{{- include "hf-agent.toml" . | trim }}
{{- end }}
{{- end }}

{{/* What the schema cannot say. */}}
{{- define "hf-agent.check" -}}
{{- $timeout := (.Values.config.flush).shutdown_timeout | default "30s" }}
{{- $least := addf (include "hf-agent.seconds" $timeout | float64) 15 }}
{{- if lt (float64 .Values.terminationGracePeriodSeconds) $least }}
{{- fail (printf "terminationGracePeriodSeconds is %v: it has to be at least 15 above config.flush.shutdown_timeout (%v)" .Values.terminationGracePeriodSeconds $timeout) }}
{{- end }}
{{- if and .Values.podMonitor.enabled .Values.serviceMonitor.enabled }}
{{- fail "podMonitor and serviceMonitor are both enabled: every agent would be scraped twice" }}
{{- end }}
{{- end }}
