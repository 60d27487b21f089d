//! Kinds whose objects are not kept. They are told of in discovery and in the schemas, and are no part of a manifest for us.

use k8s_openapi::api::{
    apps::v1 as apps, authentication::v1 as authentication, authorization::v1 as authorization,
    core::v1 as core,
};
use schemars::JsonSchema;

use super::table::{Names, PLAIN, kind};
use super::{Keeping, Kind, columns};

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

const fn review<T: JsonSchema>(names: Names) -> Kind {
    Kind {
        keeping: Keeping::Answered,
        ..kind::<T>(names, &[], PLAIN, columns::PLAIN)
    }
}

const fn never<T: JsonSchema>(names: Names, short_names: &'static [&'static str]) -> Kind {
    Kind {
        keeping: Keeping::Never,
        ..kind::<T>(names, short_names, PLAIN, columns::PLAIN)
    }
}

pub(super) static KINDS: &[Kind] = &[
    review::<authentication::TokenReview>([
        AUTHENTICATION,
        "v1",
        "TokenReview",
        "tokenreviews",
        "tokenreview",
    ])
    .of_the_cluster(),
    review::<authentication::SelfSubjectReview>([
        AUTHENTICATION,
        "v1",
        "SelfSubjectReview",
        "selfsubjectreviews",
        "selfsubjectreview",
    ])
    .of_the_cluster(),
    review::<authorization::LocalSubjectAccessReview>([
        AUTHORIZATION,
        "v1",
        "LocalSubjectAccessReview",
        "localsubjectaccessreviews",
        "localsubjectaccessreview",
    ]),
    review::<authorization::SelfSubjectAccessReview>([
        AUTHORIZATION,
        "v1",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        "selfsubjectaccessreview",
    ])
    .of_the_cluster(),
    review::<authorization::SelfSubjectRulesReview>([
        AUTHORIZATION,
        "v1",
        "SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
        "selfsubjectrulesreview",
    ])
    .of_the_cluster(),
    review::<authorization::SubjectAccessReview>([
        AUTHORIZATION,
        "v1",
        "SubjectAccessReview",
        "subjectaccessreviews",
        "subjectaccessreview",
    ])
    .of_the_cluster(),
    // With these, `kubectl apply --prune` finds every kind of the list that it has by itself.
    never::<core::PersistentVolume>(
        [
            "",
            "v1",
            "PersistentVolume",
            "persistentvolumes",
            "persistentvolume",
        ],
        &["pv"],
    )
    .of_the_cluster(),
    never::<core::PersistentVolumeClaim>(
        [
            "",
            "v1",
            "PersistentVolumeClaim",
            "persistentvolumeclaims",
            "persistentvolumeclaim",
        ],
        &["pvc"],
    ),
    never::<core::ReplicationController>(
        [
            "",
            "v1",
            "ReplicationController",
            "replicationcontrollers",
            "replicationcontroller",
        ],
        &["rc"],
    )
    .in_all(),
    never::<apps::DaemonSet>(
        ["apps", "v1", "DaemonSet", "daemonsets", "daemonset"],
        &["ds"],
    )
    .in_all(),
    never::<apps::StatefulSet>(
        ["apps", "v1", "StatefulSet", "statefulsets", "statefulset"],
        &["sts"],
    )
    .in_all(),
];
