{{/* -- names and labels ------------------------------------------------------------------------------------------ */}}

{{- define "cagdask.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "cagdask.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
app.kubernetes.io/name: cagdask
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end -}}

{{/* What the pods of a component are known by: (list $ "worker"). The operator's pods carry the operator's labels. */}}
{{- define "cagdask.selector" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- if and $root.Values.operator.enabled (ne $component "test") -}}
dask.org/cluster-name: {{ include "cagdask.fullname" $root | quote }}
dask.org/component: {{ ternary "job-runner" $component (eq $component "driver") | quote }}
{{- else -}}
app.kubernetes.io/name: cagdask
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ $component | quote }}
{{- end -}}
{{- end -}}

{{/* No versions here: they would change with every release of the chart, and restart pods for nothing: (list $ "worker"). */}}
{{- define "cagdask.podMetadata" -}}
{{- $root := index . 0 -}}
labels:
  app.kubernetes.io/name: cagdask
  app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
  app.kubernetes.io/component: {{ index . 1 | quote }}
  {{- with $root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $root.Values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "cagdask.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "cagdask.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "cagdask.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* -- sizes ----------------------------------------------------------------------------------------------------- */}}

{{/* Requests equal limits: what is asked for is there, and nothing else on the node can take it: (list cpu memory scratch). */}}
{{- define "cagdask.resources" -}}
{{- $sizes := dict "cpu" (toString (index . 0)) "memory" (index . 1) "ephemeral-storage" (index . 2) -}}
requests:
  {{- toYaml $sizes | nindent 2 }}
limits:
  {{- toYaml $sizes | nindent 2 }}
{{- end -}}

{{/* Nine tenths of the container's memory, for Dask: it must act before the kernel does. */}}
{{- define "cagdask.memoryLimit" -}}
{{- $mebibytes := trimSuffix "Mi" . | trimSuffix "Gi" | int -}}
{{- if hasSuffix "Gi" . -}}{{- $mebibytes = mul $mebibytes 1024 -}}{{- end -}}
{{- printf "%dMiB" (div (mul $mebibytes 9) 10) -}}
{{- end -}}

{{/* -- TLS ------------------------------------------------------------------------------------------------------- */}}

{{- define "cagdask.tlsSecret" -}}
{{- default (printf "%s-tls" (include "cagdask.fullname" .)) .Values.tls.existingSecret -}}
{{- end -}}

{{- define "cagdask.address" -}}
{{- printf "%s://%s-scheduler:8786" (ternary "tls" "tcp" .Values.tls.enabled) (include "cagdask.fullname" .) -}}
{{- end -}}

{{/* A YAML list of arguments; empty without TLS. */}}
{{- define "cagdask.tlsArgs" -}}
{{- if .Values.tls.enabled -}}
- --tls-ca-file
- /etc/cagdask/tls/ca.crt
- --tls-cert
- /etc/cagdask/tls/tls.crt
- --tls-key
- /etc/cagdask/tls/tls.key
{{- end -}}
{{- end -}}

{{/* -- what all pods have in common ------------------------------------------------------------------------------ */}}

{{- define "cagdask.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .Values.podSecurity.user }}
runAsGroup: {{ .Values.podSecurity.group }}
fsGroup: {{ .Values.podSecurity.group }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "cagdask.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "cagdask.container" -}}
image: {{ include "cagdask.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- include "cagdask.containerSecurity" . | nindent 2 }}
{{- with .Values.s3.existingSecret }}
envFrom:
  - secretRef:
      name: {{ . | quote }}
{{- end }}
volumeMounts:
  - name: scratch
    mountPath: /tmp
  {{- if .Values.tls.enabled }}
  - name: tls
    mountPath: /etc/cagdask/tls
    readOnly: true
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Everything that may be written lies in /tmp. The Dask settings are read by every process: a scheduler knows nothing of its client's. */}}
{{- define "cagdask.env" -}}
- name: HOME
  value: /tmp
- name: TMPDIR
  value: /tmp
- name: MPLCONFIGDIR
  value: /tmp/matplotlib
- name: NUMBA_CACHE_DIR
  value: /tmp/numba
- name: DASK_DISTRIBUTED__COMM__RETRY__COUNT
  value: "3"
- name: DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION
  value: {{ ternary "True" "False" .Values.tls.enabled | quote }}
- name: DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT
  value: {{ .Values.scheduler.noWorkersTimeout | quote }}
- name: DASK_CAGDASK__NO_WORKERS_TIMEOUT
  value: {{ .Values.scheduler.noWorkersTimeout | quote }}
- name: DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL
  value: 30 minutes
- name: DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES
  value: "5"
- name: DASK_DISTRIBUTED__WORKER__MEMORY__SPILL
  value: "False"
- name: DASK_DISTRIBUTED__WORKER__MEMORY__TARGET
  value: "False"
- name: DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE
  value: "False"
- name: DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED
  value: "False"
- name: DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL
  value: 500ms
- name: MALLOC_TRIM_THRESHOLD_
  value: "33554432"
- name: MALLOC_MMAP_THRESHOLD_
  value: "33554432"
- name: DASK_DISTRIBUTED__WORKER__HTTP__ROUTES
  value: "['distributed.http.health']"
{{- if not .Values.dashboard.enabled }}
- name: DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES
  value: "['distributed.http.health']"
{{- end }}
{{- with .Values.s3.endpointUrl }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- with .Values.s3.region }}
- name: AWS_DEFAULT_REGION
  value: {{ . | quote }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of a pod: (list $ values-of-the-component). */}}
{{- define "cagdask.pod" -}}
{{- $root := index . 0 -}}
{{- $own := index . 1 -}}
serviceAccountName: {{ include "cagdask.serviceAccount" $root }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "cagdask.podSecurity" $root | nindent 2 }}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $own.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: scratch
    emptyDir:
      sizeLimit: {{ $own.scratch }}
  {{- if $root.Values.tls.enabled }}
  - name: tls
    secret:
      secretName: {{ include "cagdask.tlsSecret" $root | quote }}
      defaultMode: 0440
  {{- end }}
  {{- with $root.Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* -- the three kinds of pod ------------------------------------------------------------------------------------ */}}

{{- define "cagdask.schedulerPod" -}}
{{- $own := .Values.scheduler -}}
{{ include "cagdask.pod" (list . $own) }}
{{- if .Values.dashboard.enabled }}
  - name: dashboard
    secret:
      secretName: {{ required "dashboard.existingSecret is empty: name a Secret with the key password, or leave dashboard.enabled at false." .Values.dashboard.existingSecret | quote }}
      defaultMode: 0440
      items:
        - key: password
          path: password
{{- end }}
terminationGracePeriodSeconds: 30
containers:
  - name: scheduler
    {{- include "cagdask.container" . | nindent 4 }}
      {{- if .Values.dashboard.enabled }}
      - name: dashboard
        mountPath: /etc/cagdask/dashboard
        readOnly: true
      {{- end }}
    command: [dask, scheduler]
    args:
      - --protocol
      - {{ ternary "tls" "tcp" .Values.tls.enabled }}
      - --port
      - "8786"
      - --dashboard-address
      - ":8787"
      {{- if .Values.dashboard.enabled }}
      - --preload
      - /opt/cagdask/dashboard_password.py
      {{- else }}
      - --no-dashboard
      {{- end }}
      {{- with include "cagdask.tlsArgs" . }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with $own.extraArgs }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    env:
      {{- include "cagdask.env" . | nindent 6 }}
      {{- if .Values.dashboard.enabled }}
      - name: CAGDASK_DASHBOARD_PASSWORD_FILE
        value: /etc/cagdask/dashboard/password
      {{- end }}
    ports:
      - name: comm
        containerPort: 8786
        protocol: TCP
      - name: http
        containerPort: 8787
        protocol: TCP
    resources:
      {{- include "cagdask.resources" (list $own.cpu $own.memory $own.scratch) | nindent 6 }}
    {{- include "cagdask.probes" (dict "startup" 60 "patience" 10) | nindent 4 }}
{{- end -}}

{{/* A compiled kernel may hold a worker's loop for minutes: Dask waits 30 minutes for it, and so does its probe. */}}
{{- define "cagdask.workerPod" -}}
{{- $own := .Values.worker -}}
{{ include "cagdask.pod" (list . $own) }}
terminationGracePeriodSeconds: 60
containers:
  - name: worker
    {{- include "cagdask.container" . | nindent 4 }}
    command: [dask, worker]
    args:
      - {{ include "cagdask.address" . }}
      - --name
      - $(DASK_WORKER_NAME)
      - --nworkers
      - "1"
      - --nthreads
      - {{ $own.cpu | quote }}
      - --memory-limit
      - {{ include "cagdask.memoryLimit" $own.memory }}
      - --local-directory
      - /tmp/dask
      - --worker-port
      - "8788"
      - --nanny-port
      - "8789"
      - --dashboard-address
      - ":8790"
      - --no-dashboard
      - --death-timeout
      - {{ $own.deathTimeout | int | quote }}
      {{- with include "cagdask.tlsArgs" . }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with $own.extraArgs }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    env:
      {{- include "cagdask.env" . | nindent 6 }}
      {{- if not .Values.operator.enabled }}
      - name: DASK_WORKER_NAME
        valueFrom:
          fieldRef:
            fieldPath: metadata.name
      {{- end }}
    ports:
      - name: comm
        containerPort: 8788
        protocol: TCP
      - name: nanny
        containerPort: 8789
        protocol: TCP
      - name: http
        containerPort: 8790
        protocol: TCP
    resources:
      {{- include "cagdask.resources" (list $own.cpu $own.memory $own.scratch) | nindent 6 }}
    {{- include "cagdask.probes" (dict "startup" 120 "patience" 60) | nindent 4 }}
{{- end -}}

{{- define "cagdask.probes" -}}
startupProbe:
  httpGet:
    path: /health
    port: http
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ .startup }}
readinessProbe:
  httpGet:
    path: /health
    port: http
  periodSeconds: 15
  timeoutSeconds: 10
  failureThreshold: 3
livenessProbe:
  httpGet:
    path: /health
    port: http
  periodSeconds: 30
  timeoutSeconds: 10
  failureThreshold: {{ .patience }}
{{- end -}}

{{- define "cagdask.waitArgs" -}}
- /opt/cagdask/wait_for_workers.py
- --scheduler
- {{ include "cagdask.address" . }}
{{- with include "cagdask.tlsArgs" . }}
{{ . }}
{{- end }}
{{- end -}}

{{/* Workers that a run waits for: it cuts its work for those that it finds. */}}
{{- define "cagdask.waitWorkers" -}}
{{- if kindIs "invalid" .Values.driver.waitWorkers -}}
{{- ternary .Values.worker.autoscaling.minReplicas .Values.worker.replicas .Values.worker.autoscaling.enabled | int -}}
{{- else -}}
{{- .Values.driver.waitWorkers | int -}}
{{- end -}}
{{- end -}}

{{/* One option of cagdask run: (list name value). Whole numbers come as floats from JSON. */}}
{{- define "cagdask.option" -}}
{{- $name := index . 0 -}}
{{- $value := index . 1 -}}
{{- if kindIs "bool" $value -}}
{{- if $value }}
- --{{ $name }}
{{- end }}
{{- else }}
- --{{ $name }}
{{- if and (kindIs "float64" $value) (eq $value (floor $value)) }}
- {{ printf "%.0f" $value | quote }}
{{- else }}
- {{ toString $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "cagdask.driverPod" -}}
{{- $own := .Values.driver -}}
{{ include "cagdask.pod" (list . $own) }}
restartPolicy: Never
terminationGracePeriodSeconds: 30
initContainers:
  - name: wait
    {{- include "cagdask.container" . | nindent 4 }}
    command: [python]
    args:
      {{- include "cagdask.waitArgs" . | nindent 6 }}
      - --workers
      - {{ include "cagdask.waitWorkers" . | quote }}
      - --timeout
      - {{ $own.waitSeconds | int | quote }}
    env:
      {{- include "cagdask.env" . | nindent 6 }}
    resources:
      {{- include "cagdask.resources" (list $own.cpu $own.memory $own.scratch) | nindent 6 }}
containers:
  - name: driver
    {{- include "cagdask.container" . | nindent 4 }}
    command: [cagdask, run]
    args:
      - {{ required "input is empty: set it to a sample sheet, table or store, such as s3://bucket/sample_sheet.json." .Values.input | quote }}
      - --output
      - {{ required "output is empty: set it to a URL to write to, such as s3://bucket/cags." .Values.output | quote }}
      - --scheduler
      - {{ include "cagdask.address" . }}
      {{- with include "cagdask.tlsArgs" . }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with .Values.s3.endpointUrl }}
      - --endpoint-url
      - {{ . | quote }}
      {{- end }}
      - --verbose
      - --no-progress
      {{- range $name, $value := .Values.options }}
      {{- include "cagdask.option" (list $name $value) | trim | nindent 6 }}
      {{- end }}
    env:
      {{- include "cagdask.env" . | nindent 6 }}
    resources:
      {{- include "cagdask.resources" (list $own.cpu $own.memory $own.scratch) | nindent 6 }}
{{- end -}}

{{/* A Job can not be changed: its name has a digest of its pod, so that an upgrade that changes the run makes a new one. */}}
{{- define "cagdask.jobName" -}}
{{- $pod := printf "%s\n%s" (include "cagdask.podMetadata" (list . "driver")) (include "cagdask.driverPod" .) -}}
{{- printf "%s-run-%s" (include "cagdask.fullname" .) (sha256sum $pod | trunc 8) -}}
{{- end -}}
