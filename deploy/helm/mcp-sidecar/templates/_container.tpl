{{/* The sidecar's container, the same in both patterns. */}}
{{- define "mcp-sidecar.container" -}}
name: mcp-sidecar
image: {{ include "mcp-sidecar.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
ports:
  - {name: http, containerPort: {{ .Values.port }}}
  {{- if .Values.opsPort }}
  - {name: ops, containerPort: {{ .Values.opsPort }}}
  {{- end }}
env:
  - name: MCP_UPSTREAM_URL
    value: {{ ternary (printf "http://localhost:%v" .Values.server.port) .Values.upstream.url (eq .Values.mode "sidecar") | quote }}
  - name: MCP_PORT
    value: {{ .Values.port | quote }}
  {{- if .Values.opsPort }}
  - name: MCP_OPS_PORT
    value: {{ .Values.opsPort | quote }}
  {{- end }}
  - name: MCP_UPSTREAM_NAME
    value: {{ default (printf "%s/%s" .Release.Namespace (include "mcp-sidecar.fullname" .)) .Values.upstream.name | quote }}
  - name: MCP_ALLOWED_HOSTS
    value: {{ include "mcp-sidecar.hosts" . | quote }}
  - name: MCP_SHUTDOWN_GRACE
    value: {{ .Values.shutdown.grace | quote }}
  {{- if .Values.rules }}
  - name: MCP_CONFIG_FILE
    value: /config/mcp_proxy.toml
  {{- end }}
  {{- if .Values.adminToken.existingSecret }}
  - name: MCP_ADMIN_TOKEN_FILE
    value: /secrets/admin/token
  {{- end }}
  {{- if .Values.redis.existingSecret }}
  - name: REDIS_URL_FILE
    value: /secrets/redis/url
  {{- end }}
  {{- if include "mcp-sidecar.forgetful" . }}
  # replicas that do not hear of each other's writes would tell old answers
  - name: MCP_CACHE_ENABLED
    value: "false"
  {{- end }}
  {{- range $name, $value := .Values.env }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
# From where it listens on, it is ready: how the server is, is told per call, not by taking pods away. With
# opsPort the probes are there, and on the other port these paths are the server's.
startupProbe:
  httpGet: {path: /readyz, port: {{ include "mcp-sidecar.own" . }}}
  periodSeconds: 1
  failureThreshold: 60
readinessProbe:
  httpGet: {path: /readyz, port: {{ include "mcp-sidecar.own" . }}}
  periodSeconds: 5
  timeoutSeconds: 3
livenessProbe:
  httpGet: {path: /livez, port: {{ include "mcp-sidecar.own" . }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
{{- if or .Values.rules .Values.adminToken.existingSecret .Values.redis.existingSecret }}
volumeMounts:
  {{- if .Values.rules }}
  - {name: rules, mountPath: /config, readOnly: true}
  {{- end }}
  {{- if .Values.adminToken.existingSecret }}
  - {name: admin-token, mountPath: /secrets/admin, readOnly: true}
  {{- end }}
  {{- if .Values.redis.existingSecret }}
  - {name: redis-url, mountPath: /secrets/redis, readOnly: true}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "mcp-sidecar.volumes" -}}
{{- with .Values.volumes }}
{{- toYaml . }}
{{- end }}
{{- if .Values.rules }}
- name: rules
  configMap: {name: {{ include "mcp-sidecar.fullname" . }}}
{{- end }}
{{- if .Values.adminToken.existingSecret }}
- name: admin-token
  secret:
    secretName: {{ .Values.adminToken.existingSecret }}
    items: [{key: {{ .Values.adminToken.key | quote }}, path: token}]
{{- end }}
{{- if .Values.redis.existingSecret }}
- name: redis-url
  secret:
    secretName: {{ .Values.redis.existingSecret }}
    items: [{key: {{ .Values.redis.key | quote }}, path: url}]
{{- end }}
{{- end -}}
