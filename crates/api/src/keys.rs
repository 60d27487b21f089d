//! The labels, annotations, condition types and finalizers that are contracts between parts, each written once.

/// Labels on objects.
pub mod label {
    /// On pods and ReplicaSets of a Deployment: the hash of the pod template.
    pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
    /// On pods and ReplicaSets of a Rollout, and in the selectors of its Services: the hash of the pod template.
    pub const ROLLOUT_POD_TEMPLATE_HASH: &str = "rollouts-pod-template-hash";
    /// On an EndpointSlice: the Service it belongs to.
    pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
    /// On an EndpointSlice: who writes it.
    pub const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
    /// On an EndpointSlice: the revision of all its endpoints; absent or empty when the pods carry no revision.
    pub const REVISION: &str = "serin.dev/revision";
    /// On a ConfigMap or a Secret: that it is the copy of another one for the revisions of a Rollout.
    pub const CONFIGURATION_COPY: &str = "serin.dev/configuration-copy";
}

/// Annotations on objects.
pub mod annotation {
    /// On a Deployment and its ReplicaSets: the number of the revision, from 1.
    pub const DEPLOYMENT_REVISION: &str = "deployment.kubernetes.io/revision";
    /// On a ReplicaSet of a Deployment: the replicas its Deployment wants in all.
    pub const DEPLOYMENT_DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
    /// On a workload and its ReplicaSets: why this revision was made, in the words of its author.
    pub const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
    /// On a pod template: when a restart was asked for (kubectl's key).
    pub const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";
    /// On a Rollout and its ReplicaSets: the number of the revision, from 1.
    pub const ROLLOUT_REVISION: &str = "rollout.argoproj.io/revision";
    /// On a ReplicaSet of a Rollout: the replicas its Rollout wants in all.
    pub const ROLLOUT_DESIRED_REPLICAS: &str = "rollout.argoproj.io/desired-replicas";
    /// On a ReplicaSet of a Rollout: the RFC 3339 time after which it may be scaled to 0.
    pub const SCALE_DOWN_DEADLINE: &str = "scale-down-deadline";
    /// On a ReplicaSet of a Rollout: the labels and annotations that its pods have only for a time, as JSON.
    pub const EPHEMERAL_METADATA: &str = "rollout.argoproj.io/ephemeral-metadata";
    /// On a ReplicaSet of a Rollout: those that its pods had for a time and have still to lose, as JSON.
    pub const ENDING_METADATA: &str = "serin.dev/ending-metadata";
    /// On a ReplicaSet of a Rollout: the digest of the template that it was made from.
    pub const TEMPLATE_DIGEST: &str = "serin.dev/template-digest";
    /// On an HTTPRoute or a VirtualService: the rules that a Rollout has put before the others, as JSON: name and digest of each.
    pub const MANAGED_ROUTES: &str = "serin.dev/managed-routes";
    /// On an HTTPRoute or a VirtualService: the Services of an experiment that a Rollout has given a share to, as JSON.
    pub const EXPERIMENT_SERVICES: &str = "serin.dev/experiment-services";
    /// On an HTTPRoute or a VirtualService: whose requests are split at present, and between what, as JSON. With it everything that
    /// is ours is taken out when that Rollout is gone.
    pub const SPLIT_BY: &str = "serin.dev/split-by";
    /// On an Experiment: a route may still lead to its versions, which stay as long as this is there; the name of its Rollout.
    pub const IN_ROUTES: &str = "serin.dev/in-routes";
    /// On Services and routes that a Rollout changes: the name of that Rollout.
    pub const MANAGED_BY_ROLLOUTS: &str = "argo-rollouts.argoproj.io/managed-by-rollouts";
    /// On a route or a Service: what makes a user, who stays where he is: `cookie=NAME ttl=24h`, `header=NAME`, `query=NAME` or
    /// `source-ip`.
    pub const STICKY: &str = "serin.dev/sticky";
    /// On a route: how many requests are let through, such as `100/s burst=20`.
    pub const RATE_LIMIT: &str = "serin.dev/rate-limit";
    /// On a route or a Service: how many requests may be under way at once.
    pub const MAX_IN_FLIGHT: &str = "serin.dev/max-in-flight";
    /// On a route: when no request is let through for a while, such as `failures=5 open=10s`.
    pub const CIRCUIT_BREAKER: &str = "serin.dev/circuit-breaker";
    /// On a Service: when an instance is left out for a while, such as `failures=5 for=30s max=10`.
    pub const EJECTION: &str = "serin.dev/ejection";
    /// On a Service: how the gateway asks its instances whether they are well, such as `path=/healthz interval=5s`.
    pub const HEALTH_CHECK: &str = "serin.dev/health-check";
    /// On a Service: that its instances are spoken to by TLS, and how, such as `on ca=tls/ca.pem name=app.example.com`.
    pub const BACKEND_TLS: &str = "serin.dev/backend-tls";
    /// On an EndpointSlice: the `metadata.generation` of the Service whose selector it follows.
    pub const SERVICE_GENERATION: &str = "serin.dev/service-generation";
    /// On a Rollout: the ReleasePolicy of its namespace that governs it.
    pub const RELEASE_POLICY: &str = "serin.dev/release-policy";
    /// On a Rollout: the hash of the revision to which an emergency rollback leads, with no steps, gates or windows.
    pub const EMERGENCY: &str = "serin.dev/emergency-rollback-to";
    /// On a Rollout: who went back from which revision and why, as JSON: [`crate::rollout::Undo`].
    pub const UNDO: &str = "serin.dev/undo";
    /// On a Rollout: the group whose releases go step by step together.
    pub const RELEASE_GROUP: &str = "serin.dev/release-group";
    /// On a Rollout of a group: which release of the group its spec is of; no member begins before all say the same.
    pub const RELEASE: &str = "serin.dev/release";
    /// On a ConfigMap or a Secret: `"false"` when it is no part of the revisions that mount or read it.
    pub const VERSIONED: &str = "serin.dev/versioned";
    /// On a copy of a ConfigMap or a Secret: the name of the one that it was made from.
    pub const COPY_OF: &str = "serin.dev/copy-of";
    /// On a ReplicaSet of a Rollout: when the users were last put on this revision, RFC 3339.
    pub const PROMOTED_AT: &str = "serin.dev/promoted-at";
    /// On a ReplicaSet of a Rollout: when this revision was taken back, RFC 3339.
    pub const TAKEN_BACK_AT: &str = "serin.dev/taken-back-at";
    /// On a ReplicaSet of a Rollout: who took this revision back.
    pub const TAKEN_BACK_BY: &str = "serin.dev/taken-back-by";
    /// On a HorizontalPodAutoscaler that is read in `v1`: what only `v2` can say of it, as JSON.
    pub const AUTOSCALING_V2: &str = "serin.dev/autoscaling-v2";
    /// On a ReplicaSet of a Rollout: why this revision was taken back.
    pub const TAKEN_BACK_WHY: &str = "serin.dev/taken-back-why";
    /// On a Deployment: when a person last asked to try a revision again that was taken back.
    pub const RETRIED_AT: &str = "serin.dev/retried-at";
}

/// Condition types of our own.
pub mod condition {
    /// On a Pod, by the gateway: no request is in flight to it and none will come.
    pub const DRAINED: &str = "serin.dev/Drained";
    /// On a Service, by the gateway: its endpoints as of `observedGeneration` are what the gateway serves.
    pub const SERVED: &str = "serin.dev/Served";
    /// On a Deployment: the version that is wanted was taken back, and is held.
    pub const HELD: &str = "serin.dev/Held";
}

/// The field manager of all writes by our controllers.
pub const FIELD_MANAGER: &str = "serin";
/// The name under which the gateway writes the status of routes, and the class of Ingresses and Gateways it takes.
pub const GATEWAY_CONTROLLER: &str = "serin.dev/gateway";
