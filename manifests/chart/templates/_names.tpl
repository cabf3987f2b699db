{{- define "weir.name" -}}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{- end }}
{{- define "weir.account" -}}{{ (.Values.serviceAccount).name | default (include "weir.name" .) }}{{- end }}
{{- define "weir.image" -}}
{{ (.Values.image).repository }}:{{ (.Values.image).tag | default .Chart.AppVersion }}{{ with (.Values.image).digest }}@{{ . }}{{ end }}
{{- end }}
{{- define "weir.selector" -}}
app.kubernetes.io/name: weir
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- /* What runs, as a label: the Service leads only to pods that serve the module of this very image. */}}
{{- define "weir.version" -}}
{{- $tag := (.Values.image).tag | default .Chart.AppVersion -}}
{{- with (.Values.image).digest }}{{ $tag = printf "%s-%s" ($tag | trunc 40) . }}{{ end -}}
{{- regexReplaceAll "[^A-Za-z0-9._-]" $tag "-" | trunc 63 | trimSuffix "-" -}}
{{- end }}
{{- /* Of the pods that serve, and what the Service finds them by. */}}
{{- define "weir.serving" -}}
{{ include "weir.selector" . }}
app.kubernetes.io/version: {{ include "weir.version" . | quote }}
{{- end }}
{{- define "weir.labels" -}}
{{ include "weir.serving" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- /* The labels that people give to pods; those of pods go before those of everything. */}}
{{- define "weir.pod.labels" -}}
# Nothing here is for a sidecar: gateways are scraped and the module is served without one.
{{ merge (dict) (.Values.podLabels | default dict) (.Values.commonLabels | default dict) (dict "sidecar.istio.io/inject" "false") | toYaml }}
{{- end }}
{{- /* Who may run, where, and how, of every pod: of the controller, and of what takes Weir away. */}}
{{- define "weir.pod" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- define "weir.container" -}}
image: {{ include "weir.image" . }}
imagePullPolicy: {{ (.Values.image).pullPolicy | default "IfNotPresent" }}
resources: {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}
{{- /* The namespaces of gateways. With rights in some namespaces alone, those of the default that the cluster lacks are left out: a Role in
  one would fail the installation. `helm template` sees no cluster, and has both. */}}
{{- define "weir.gatewayNamespaces" -}}
{{- $named := kindIs "invalid" .Values.gatewayNamespaces | ternary (list "istio-system" "istio-ingress") .Values.gatewayNamespaces }}
{{- if and .Values.watchNamespaces (eq (join "," $named) "istio-system,istio-ingress") }}
{{- $found := list }}
{{- range $named }}{{ if lookup "v1" "Namespace" "" . }}{{ $found = append $found . }}{{ end }}{{ end }}
{{- $named = $found | default $named }}
{{- end }}
{{- join "," $named }}
{{- end }}
{{- define "weir.apiServerPorts" -}}
{{ (.Values.networkPolicy).apiServerPorts | default (list (dict "port" 443) (dict "port" 6443)) | toJson }}
{{- end }}
