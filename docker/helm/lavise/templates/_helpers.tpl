{{- define "lavise.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Labels of a part: (list $ "worker"). */}}
{{- define "lavise.selector" -}}
app.kubernetes.io/name: lavise
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "lavise.labels" -}}
{{ include "lavise.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end }}

{{- define "lavise.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "lavise.name" $root }}-{{ index . 2 | default (index . 1) }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "lavise.labels" . | nindent 2 }}
{{- end }}

{{/* (list $ $image "-cuda"): the suffix is for the tag that follows from the chart. */}}
{{- define "lavise.image" -}}
{{- $root := index . 0 }}{{ $image := index . 1 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (printf "%s%s" $root.Chart.AppVersion (index . 2)) }}
{{- end }}
{{- end }}

{{/* What every pod has: nobody's rights, no token of the API server, no variables of Services. */}}
{{- define "lavise.pod" -}}
{{- $root := index . 0 }}{{ $part := index . 1 }}{{ $values := index . 2 -}}
serviceAccountName: {{ include "lavise.name" $root }}-{{ $part }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "lavise.selector" . | nindent 8 }}
{{- end }}

{{- define "lavise.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}
