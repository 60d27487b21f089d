//! The rows of the table of kinds.

use k8s_openapi::api::{apps::v1 as apps, coordination::v1 as coordination, core::v1 as core};
use k8s_openapi::api::{autoscaling, batch::v1 as batch, policy::v1 as policy};
use k8s_openapi::api::{
    discovery::v1 as discovery, networking::v1 as networking, rbac::v1 as rbac,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{Column, Keeping, Kind, Subresources, columns};
use crate::{analysis, experiment, gateway_api, istio, release, rollout};

pub(super) const PLAIN: Subresources = Subresources {
    status: false,
    scale: false,
};
const STATUS: Subresources = Subresources {
    status: true,
    scale: false,
};
const SCALED: Subresources = Subresources {
    status: true,
    scale: true,
};

/// Group, version, kind, plural, singular.
pub(super) type Names = [&'static str; 5];

pub(super) const fn kind<T: JsonSchema>(
    [group, version, kind, plural, singular]: Names,
    short_names: &'static [&'static str],
    subresources: Subresources,
    columns: &'static [Column],
) -> Kind {
    Kind {
        group,
        version,
        stored_version: version,
        also_served: &[],
        kind,
        plural,
        singular,
        short_names,
        categories: &[],
        namespaced: true,
        subresources,
        keeping: Keeping::Kept,
        columns,
        schema: schema::<T>,
    }
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

impl Kind {
    pub(super) const fn of_the_cluster(self) -> Self {
        Self {
            namespaced: false,
            ..self
        }
    }

    /// The same objects under other versions too.
    const fn also_as(self, versions: &'static [&'static str]) -> Self {
        Self {
            also_served: versions,
            ..self
        }
    }

    /// Objects that the row of another version keeps.
    const fn stored_as(self, version: &'static str) -> Self {
        Self {
            stored_version: version,
            ..self
        }
    }

    pub(super) const fn in_all(self) -> Self {
        Self {
            categories: &["all"],
            ..self
        }
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const ARGO: &str = "argoproj.io";
const NETWORKING: &str = "networking.k8s.io";
const GATEWAY: &str = "gateway.networking.k8s.io";

pub(super) static KINDS: &[Kind] = &[
    kind::<core::Namespace>(
        ["", "v1", "Namespace", "namespaces", "namespace"],
        &["ns"],
        STATUS,
        columns::NAMESPACE,
    )
    .of_the_cluster(),
    kind::<core::Node>(
        ["", "v1", "Node", "nodes", "node"],
        &["no"],
        STATUS,
        columns::NODE,
    )
    .of_the_cluster(),
    kind::<core::Pod>(
        ["", "v1", "Pod", "pods", "pod"],
        &["po"],
        STATUS,
        columns::POD,
    )
    .in_all(),
    kind::<core::Service>(
        ["", "v1", "Service", "services", "service"],
        &["svc"],
        STATUS,
        columns::SERVICE,
    )
    .in_all(),
    kind::<core::Endpoints>(
        ["", "v1", "Endpoints", "endpoints", "endpoints"],
        &["ep"],
        PLAIN,
        columns::ENDPOINTS,
    ),
    kind::<core::ConfigMap>(
        ["", "v1", "ConfigMap", "configmaps", "configmap"],
        &["cm"],
        PLAIN,
        columns::CONFIG_MAP,
    ),
    kind::<core::Secret>(
        ["", "v1", "Secret", "secrets", "secret"],
        &[],
        PLAIN,
        columns::SECRET,
    ),
    kind::<core::Event>(
        ["", "v1", "Event", "events", "event"],
        &["ev"],
        PLAIN,
        columns::EVENT,
    ),
    kind::<core::ServiceAccount>(
        [
            "",
            "v1",
            "ServiceAccount",
            "serviceaccounts",
            "serviceaccount",
        ],
        &["sa"],
        PLAIN,
        columns::SERVICE_ACCOUNT,
    ),
    kind::<apps::Deployment>(
        ["apps", "v1", "Deployment", "deployments", "deployment"],
        &["deploy"],
        SCALED,
        columns::DEPLOYMENT,
    )
    .in_all(),
    kind::<apps::ReplicaSet>(
        ["apps", "v1", "ReplicaSet", "replicasets", "replicaset"],
        &["rs"],
        SCALED,
        columns::REPLICA_SET,
    )
    .in_all(),
    kind::<batch::Job>(
        ["batch", "v1", "Job", "jobs", "job"],
        &[],
        STATUS,
        columns::JOB,
    )
    .in_all(),
    kind::<batch::CronJob>(
        ["batch", "v1", "CronJob", "cronjobs", "cronjob"],
        &["cj"],
        STATUS,
        columns::CRON_JOB,
    )
    .in_all(),
    kind::<autoscaling::v2::HorizontalPodAutoscaler>(
        [
            "autoscaling",
            "v2",
            "HorizontalPodAutoscaler",
            "horizontalpodautoscalers",
            "horizontalpodautoscaler",
        ],
        &["hpa"],
        STATUS,
        columns::HORIZONTAL_POD_AUTOSCALER,
    )
    .in_all(),
    kind::<autoscaling::v1::HorizontalPodAutoscaler>(
        [
            "autoscaling",
            "v1",
            "HorizontalPodAutoscaler",
            "horizontalpodautoscalers",
            "horizontalpodautoscaler",
        ],
        &["hpa"],
        STATUS,
        columns::HORIZONTAL_POD_AUTOSCALER,
    )
    .stored_as("v2")
    .in_all(),
    kind::<policy::PodDisruptionBudget>(
        [
            "policy",
            "v1",
            "PodDisruptionBudget",
            "poddisruptionbudgets",
            "poddisruptionbudget",
        ],
        &["pdb"],
        STATUS,
        columns::POD_DISRUPTION_BUDGET,
    ),
    kind::<discovery::EndpointSlice>(
        [
            "discovery.k8s.io",
            "v1",
            "EndpointSlice",
            "endpointslices",
            "endpointslice",
        ],
        &[],
        PLAIN,
        columns::ENDPOINT_SLICE,
    ),
    kind::<networking::Ingress>(
        [NETWORKING, "v1", "Ingress", "ingresses", "ingress"],
        &["ing"],
        STATUS,
        columns::INGRESS,
    ),
    kind::<networking::IngressClass>(
        [
            NETWORKING,
            "v1",
            "IngressClass",
            "ingressclasses",
            "ingressclass",
        ],
        &[],
        PLAIN,
        columns::INGRESS_CLASS,
    )
    .of_the_cluster(),
    kind::<coordination::Lease>(
        ["coordination.k8s.io", "v1", "Lease", "leases", "lease"],
        &[],
        PLAIN,
        columns::LEASE,
    ),
    kind::<rbac::ClusterRole>(
        [RBAC, "v1", "ClusterRole", "clusterroles", "clusterrole"],
        &[],
        PLAIN,
        columns::ROLE,
    )
    .of_the_cluster(),
    kind::<rbac::ClusterRoleBinding>(
        [
            RBAC,
            "v1",
            "ClusterRoleBinding",
            "clusterrolebindings",
            "clusterrolebinding",
        ],
        &[],
        PLAIN,
        columns::ROLE_BINDING,
    )
    .of_the_cluster(),
    kind::<rbac::Role>(
        [RBAC, "v1", "Role", "roles", "role"],
        &[],
        PLAIN,
        columns::ROLE,
    ),
    kind::<rbac::RoleBinding>(
        [RBAC, "v1", "RoleBinding", "rolebindings", "rolebinding"],
        &[],
        PLAIN,
        columns::ROLE_BINDING,
    ),
    kind::<apiextensions::CustomResourceDefinition>(
        [
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
            "customresourcedefinitions",
            "customresourcedefinition",
        ],
        &["crd", "crds"],
        STATUS,
        columns::CUSTOM_RESOURCE_DEFINITION,
    )
    .of_the_cluster(),
    kind::<gateway_api::HTTPRoute>(
        [
            "gateway.networking.k8s.io",
            "v1",
            "HTTPRoute",
            "httproutes",
            "httproute",
        ],
        &[],
        STATUS,
        columns::HTTP_ROUTE,
    )
    .also_as(&["v1beta1"]),
    kind::<gateway_api::Gateway>(
        [GATEWAY, "v1", "Gateway", "gateways", "gateway"],
        &["gtw"],
        STATUS,
        columns::GATEWAY,
    )
    .also_as(&["v1beta1"]),
    kind::<gateway_api::GatewayClass>(
        [
            GATEWAY,
            "v1",
            "GatewayClass",
            "gatewayclasses",
            "gatewayclass",
        ],
        &["gc"],
        STATUS,
        columns::GATEWAY_CLASS,
    )
    .also_as(&["v1beta1"])
    .of_the_cluster(),
    kind::<gateway_api::ReferenceGrant>(
        [
            GATEWAY,
            "v1beta1",
            "ReferenceGrant",
            "referencegrants",
            "referencegrant",
        ],
        &["refgrant"],
        PLAIN,
        columns::PLAIN,
    ),
    kind::<istio::VirtualService>(
        [
            istio::GROUP,
            "v1",
            "VirtualService",
            "virtualservices",
            "virtualservice",
        ],
        &["vs"],
        STATUS,
        columns::VIRTUAL_SERVICE,
    )
    .also_as(&["v1beta1", "v1alpha3"]),
    kind::<istio::DestinationRule>(
        [
            istio::GROUP,
            "v1",
            "DestinationRule",
            "destinationrules",
            "destinationrule",
        ],
        &["dr"],
        STATUS,
        columns::DESTINATION_RULE,
    )
    .also_as(&["v1beta1", "v1alpha3"]),
    kind::<rollout::Rollout>(
        [ARGO, "v1alpha1", "Rollout", "rollouts", "rollout"],
        &["ro"],
        SCALED,
        columns::ROLLOUT,
    )
    .in_all(),
    kind::<analysis::AnalysisTemplate>(
        [
            ARGO,
            "v1alpha1",
            "AnalysisTemplate",
            "analysistemplates",
            "analysistemplate",
        ],
        &["at"],
        PLAIN,
        columns::ANALYSIS_TEMPLATE,
    ),
    kind::<analysis::ClusterAnalysisTemplate>(
        [
            ARGO,
            "v1alpha1",
            "ClusterAnalysisTemplate",
            "clusteranalysistemplates",
            "clusteranalysistemplate",
        ],
        &["cat"],
        PLAIN,
        columns::ANALYSIS_TEMPLATE,
    )
    .of_the_cluster(),
    kind::<analysis::AnalysisRun>(
        [
            ARGO,
            "v1alpha1",
            "AnalysisRun",
            "analysisruns",
            "analysisrun",
        ],
        &["ar"],
        STATUS,
        columns::ANALYSIS_RUN,
    ),
    kind::<experiment::Experiment>(
        [ARGO, "v1alpha1", "Experiment", "experiments", "experiment"],
        &["exp"],
        STATUS,
        columns::ANALYSIS_RUN,
    ),
    kind::<release::ReleasePolicy>(
        [
            "serin.dev",
            "v1alpha1",
            "ReleasePolicy",
            "releasepolicies",
            "releasepolicy",
        ],
        &["rp"],
        PLAIN,
        columns::RELEASE_POLICY,
    ),
];
