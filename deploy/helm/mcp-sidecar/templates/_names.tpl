{{- define "mcp-sidecar.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "mcp-sidecar.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "mcp-sidecar.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "mcp-sidecar.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "mcp-sidecar.selector" -}}
app.kubernetes.io/name: {{ include "mcp-sidecar.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mcp-sidecar.labels" -}}
{{ include "mcp-sidecar.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "mcp-sidecar.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* The port of our own endpoints: probes, metrics, events. */}}
{{- define "mcp-sidecar.own" -}}
{{- ternary "ops" "http" (gt (int .Values.opsPort) 0) -}}
{{- end -}}

{{- define "mcp-sidecar.opsname" -}}
{{- printf "%s-ops" (include "mcp-sidecar.fullname" . | trunc 59 | trimSuffix "-") -}}
{{- end -}}

{{/* The Hosts under which the Services are called: those with dots are not served unless they are named. */}}
{{- define "mcp-sidecar.hosts" -}}
{{- $names := list (include "mcp-sidecar.fullname" .) -}}
{{- if .Values.opsPort -}}
{{- $names = append $names (include "mcp-sidecar.opsname" .) -}}
{{- end -}}
{{- $hosts := list -}}
{{- range $names -}}
{{- $name := printf "%s.%s" . $.Release.Namespace -}}
{{- $hosts = concat $hosts (list $name (print $name ".svc") (print $name ".svc.cluster.local")) -}}
{{- end -}}
{{- concat $hosts .Values.allowedHosts | join "," -}}
{{- end -}}

{{/* Whether nothing may be kept: several replicas, no Redis between them, and nobody has decided. */}}
{{- define "mcp-sidecar.forgetful" -}}
{{- if and (or .Values.autoscaling.enabled (gt (int .Values.replicas) 1)) (not .Values.redis.existingSecret) (not (hasKey .Values.env "MCP_CACHE_ENABLED")) -}}
true
{{- end -}}
{{- end -}}
