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

{{/* The Hosts under which the Service is called: those with dots are not served unless they are named. */}}
{{- define "mcp-sidecar.hosts" -}}
{{- $name := printf "%s.%s" (include "mcp-sidecar.fullname" .) .Release.Namespace -}}
{{- concat (list $name (print $name ".svc") (print $name ".svc.cluster.local")) .Values.allowedHosts | join "," -}}
{{- end -}}

{{/* Whether nothing may be kept: several replicas, no Redis between them, and nobody has decided. */}}
{{- define "mcp-sidecar.forgetful" -}}
{{- if and (or .Values.autoscaling.enabled (gt (int .Values.replicas) 1)) (not .Values.redis.existingSecret) (not (hasKey .Values.env "MCP_CACHE_ENABLED")) -}}
true
{{- end -}}
{{- end -}}
