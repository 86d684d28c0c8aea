{{/* Refuses what would install and not work. */}}
{{- define "lavise.check" -}}
{{- $c := .Values.companion }}{{ $m := .Values.worker.modelStore }}
{{- $s := .Values.monitoring.serviceMonitor }}
{{- if not (or $c.tokens.secret $c.tls.clientCa.secret $c.allowAnonymous) }}
{{- fail "say who may ask: companion.tokens.secret, companion.tls.clientCa.secret, or companion.allowAnonymous" }}
{{- end }}
{{- if and $c.tls.clientCa.secret (not (and $c.tls.secret $c.tls.clientCa.probeSecret)) }}
{{- fail "companion.tls.clientCa needs companion.tls.secret, and its probeSecret: the health probes need a certificate too" }}
{{- end }}
{{- if and (eq $c.store.kind "url") (not $c.store.url) }}
{{- fail "companion.store.kind is url: say which in companion.store.url" }}
{{- end }}
{{- if and (eq $c.store.kind "claim") (gt (int $c.replicas) 1) (ne $c.store.claim.accessMode "ReadWriteMany") }}
{{- fail "companion.replicas share the store: several need companion.store.claim.accessMode ReadWriteMany, or kind url" }}
{{- end }}
{{- if not $m.kind }}
{{- fail "say where the model comes from: worker.modelStore.kind is image, claim or url" }}
{{- end }}
{{- if and (ne $m.kind "image") (not (get $m $m.kind)) }}
{{- fail (printf "worker.modelStore.kind is %s: say which in worker.modelStore.%s" $m.kind $m.kind) }}
{{- end }}
{{- if ne (empty .Values.worker.tls.secret) (empty .Values.worker.tls.clientSecret) }}
{{- fail "worker.tls takes two certificates: worker.tls.secret, the worker's, and worker.tls.clientSecret, the companion's" }}
{{- end }}
{{- if gt (int .Values.worker.autoscaling.minReplicas) (int .Values.worker.autoscaling.maxReplicas) }}
{{- fail "worker.autoscaling.minReplicas is more than maxReplicas" }}
{{- end }}
{{- if and $s.enabled $c.tokens.secret (not $s.token.secret) }}
{{- fail "with companion.tokens, /metrics asks for one too: monitoring.serviceMonitor.token.secret" }}
{{- end }}
{{- if and $s.enabled $c.tls.secret (not $s.tlsSecret) }}
{{- fail "with companion.tls, Prometheus must know the authority: monitoring.serviceMonitor.tlsSecret" }}
{{- end }}
{{- end }}
