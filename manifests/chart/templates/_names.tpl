{{- define "weir.name" -}}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{- end }}
{{- define "weir.account" -}}{{ .Values.serviceAccount.name | default (include "weir.name" .) }}{{- end }}
{{- define "weir.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}
{{- define "weir.selector" -}}
app.kubernetes.io/name: weir
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- /* What runs, as a label: the Service leads only to pods that serve the module of this very image. */}}
{{- define "weir.version" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- with .Values.image.digest }}{{ $tag = printf "%s-%s" ($tag | trunc 40) . }}{{ end -}}
{{- regexReplaceAll "[^A-Za-z0-9._-]" $tag "-" | trunc 63 | trimSuffix "-" -}}
{{- end }}
{{- define "weir.labels" -}}
{{ include "weir.selector" . }}
app.kubernetes.io/version: {{ include "weir.version" . | quote }}
{{- end }}
