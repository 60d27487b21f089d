//! The columns of each kind, as kubectl shows them.

mod jobs;
mod rights;

use serde_json::json;

use super::when::since;
use super::{Cell, Column, cells, pods};

pub(super) use jobs::{CRON_JOB, HORIZONTAL_POD_AUTOSCALER, JOB, POD_DISRUPTION_BUDGET};
pub(super) use rights::{ROLE, ROLE_BINDING};

const fn text(name: &'static str, description: &'static str, cell: Cell) -> Column {
    Column {
        name,
        type_: "string",
        format: "",
        priority: 0,
        description,
        cell,
    }
}

const fn number(name: &'static str, description: &'static str, cell: Cell) -> Column {
    Column {
        type_: "integer",
        ..text(name, description, cell)
    }
}

impl Column {
    const fn wide(self) -> Self {
        Self {
            priority: 1,
            ..self
        }
    }
}

const NAME: Column = Column {
    format: "name",
    ..text(
        "Name",
        "The name, unique in the namespace.",
        Cell::Path(".metadata.name"),
    )
};
const AGE: Column = text(
    "Age",
    "The time since the object was made.",
    Cell::Computed(|object, now| json!(since(object, "/metadata/creationTimestamp", now))),
);
const CONTAINERS: Column = text(
    "Containers",
    "The names of the containers.",
    Cell::Computed(|object, _| json!(cells::containers(object, "name"))),
)
.wide();
const IMAGES: Column = text(
    "Images",
    "The images of the containers.",
    Cell::Computed(|object, _| json!(cells::containers(object, "image"))),
)
.wide();
const SELECTOR: Column = text(
    "Selector",
    "The labels of its pods.",
    Cell::Computed(|object, _| json!(cells::selector(object.pointer("/spec/selector")))),
)
.wide();

pub(super) static NAMESPACE: &[Column] = &[
    NAME,
    text("Status", "The phase.", Cell::Path(".status.phase")),
    AGE,
];

pub(super) static NODE: &[Column] = &[
    NAME,
    text(
        "Status",
        "Whether it takes pods.",
        Cell::Computed(|object, _| json!(cells::node_status(object))),
    ),
    text(
        "Roles",
        "The roles in its labels.",
        Cell::Computed(|object, _| json!(cells::node_roles(object))),
    ),
    AGE,
    text(
        "Version",
        "The version of the node's agent.",
        Cell::Path(".status.nodeInfo.kubeletVersion"),
    ),
    text(
        "Internal-IP",
        "Its address inside.",
        Cell::Computed(|object, _| json!(cells::node_address(object, "InternalIP"))),
    )
    .wide(),
    text(
        "External-IP",
        "Its address outside.",
        Cell::Computed(|object, _| json!(cells::node_address(object, "ExternalIP"))),
    )
    .wide(),
    text(
        "OS-Image",
        "Its operating system.",
        Cell::Path(".status.nodeInfo.osImage"),
    )
    .wide(),
    text(
        "Kernel-Version",
        "Its kernel.",
        Cell::Path(".status.nodeInfo.kernelVersion"),
    )
    .wide(),
    text(
        "Container-Runtime",
        "What runs its containers.",
        Cell::Path(".status.nodeInfo.containerRuntimeVersion"),
    )
    .wide(),
];

pub(super) static POD: &[Column] = &[
    NAME,
    text(
        "Ready",
        "Containers that are ready, of all.",
        Cell::Computed(|object, now| json!(pods::row(object, now).ready)),
    ),
    text(
        "Status",
        "Where it stands, in one word.",
        Cell::Computed(|object, now| json!(pods::row(object, now).status)),
    ),
    text(
        "Restarts",
        "How often containers were started again, and when last.",
        Cell::Computed(|object, now| json!(pods::row(object, now).restarts)),
    ),
    AGE,
    text(
        "IP",
        "Its address.",
        Cell::Computed(|object, _| json!(cells::or_none(object, "/status/podIP"))),
    )
    .wide(),
    text(
        "Node",
        "The node it runs on.",
        Cell::Computed(|object, _| json!(cells::or_none(object, "/spec/nodeName"))),
    )
    .wide(),
    text(
        "Nominated Node",
        "The node that makes room for it.",
        Cell::Computed(|object, _| json!(cells::or_none(object, "/status/nominatedNodeName"))),
    )
    .wide(),
    text(
        "Readiness Gates",
        "Gates that are open, of all.",
        Cell::Computed(|object, _| json!(pods::readiness_gates(object))),
    )
    .wide(),
];

pub(super) static SERVICE: &[Column] = &[
    NAME,
    text(
        "Type",
        "Who can reach it.",
        Cell::Computed(|object, _| json!(cells::service_type(object))),
    ),
    text(
        "Cluster-IP",
        "Its address inside.",
        Cell::Computed(|object, _| json!(cells::or_none(object, "/spec/clusterIP"))),
    ),
    text(
        "External-IP",
        "Its address outside.",
        Cell::Computed(|object, _| json!(cells::external_ip(object))),
    ),
    text(
        "Port(s)",
        "Its ports.",
        Cell::Computed(|object, _| json!(cells::service_ports(object))),
    ),
    AGE,
    SELECTOR,
];

pub(super) static ENDPOINTS: &[Column] = &[
    NAME,
    text(
        "Endpoints",
        "Addresses that take requests.",
        Cell::Computed(|object, _| json!(cells::endpoints(object))),
    ),
    AGE,
];

pub(super) static ENDPOINT_SLICE: &[Column] = &[
    NAME,
    text(
        "AddressType",
        "The kind of address.",
        Cell::Path(".addressType"),
    ),
    text(
        "Ports",
        "The ports.",
        Cell::Computed(|object, _| json!(cells::slice_ports(object))),
    ),
    text(
        "Endpoints",
        "The addresses.",
        Cell::Computed(|object, _| json!(cells::slice_addresses(object))),
    ),
    AGE,
];

pub(super) static CONFIG_MAP: &[Column] = &[
    NAME,
    number(
        "Data",
        "How many keys.",
        Cell::Computed(|object, _| {
            json!(cells::length(object, "/data") + cells::length(object, "/binaryData"))
        }),
    ),
    AGE,
];

pub(super) static SECRET: &[Column] = &[
    NAME,
    text(
        "Type",
        "What it is for.",
        Cell::Computed(|object, _| json!(cells::secret_type(object))),
    ),
    number(
        "Data",
        "How many keys.",
        Cell::Computed(|object, _| json!(cells::length(object, "/data"))),
    ),
    AGE,
];

pub(super) static SERVICE_ACCOUNT: &[Column] = &[
    NAME,
    number(
        "Secrets",
        "How many secrets.",
        Cell::Computed(|object, _| json!(cells::length(object, "/secrets"))),
    ),
    AGE,
];

pub(super) static EVENT: &[Column] = &[
    text(
        "Last Seen",
        "The time since it was last seen.",
        Cell::Computed(|object, now| json!(cells::event_last_seen(object, now))),
    ),
    text("Type", "Normal or Warning.", Cell::Path(".type")),
    text("Reason", "Why, in one word.", Cell::Path(".reason")),
    text(
        "Object",
        "What it is about.",
        Cell::Computed(|object, _| json!(cells::event_object(object))),
    ),
    text(
        "Subobject",
        "Which part of it.",
        Cell::Path(".involvedObject.fieldPath"),
    )
    .wide(),
    text(
        "Source",
        "Who says it.",
        Cell::Computed(|object, _| json!(cells::event_source(object))),
    )
    .wide(),
    text("Message", "Why, for a person.", Cell::Path(".message")),
    text(
        "First Seen",
        "The time since it was first seen.",
        Cell::Computed(|object, now| json!(cells::event_first_seen(object, now))),
    )
    .wide(),
    number(
        "Count",
        "How often it was seen.",
        Cell::Computed(|object, _| json!(cells::event_count(object))),
    )
    .wide(),
    NAME.wide(),
];

pub(super) static DEPLOYMENT: &[Column] = &[
    NAME,
    text(
        "Ready",
        "Pods that are ready, of those wanted.",
        Cell::Computed(|object, _| json!(cells::ready_of_wanted(object))),
    ),
    number(
        "Up-to-date",
        "Pods of the version that is wanted.",
        Cell::Computed(|object, _| json!(cells::count(object, "/status/updatedReplicas"))),
    ),
    number(
        "Available",
        "Pods that have been ready for long enough.",
        Cell::Computed(|object, _| json!(cells::count(object, "/status/availableReplicas"))),
    ),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) static REPLICA_SET: &[Column] = &[
    NAME,
    number(
        "Desired",
        "Pods that are wanted.",
        Cell::Computed(|object, _| json!(cells::wanted(object))),
    ),
    number(
        "Current",
        "Pods that are there.",
        Cell::Computed(|object, _| json!(cells::count(object, "/status/replicas"))),
    ),
    number(
        "Ready",
        "Pods that are ready.",
        Cell::Computed(|object, _| json!(cells::count(object, "/status/readyReplicas"))),
    ),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) static INGRESS: &[Column] = &[
    NAME,
    text(
        "Class",
        "Who serves it.",
        Cell::Computed(|object, _| json!(cells::ingress_class(object))),
    ),
    text(
        "Hosts",
        "The hosts that match.",
        Cell::Computed(|object, _| json!(cells::ingress_hosts(object))),
    ),
    text(
        "Address",
        "Where it is served.",
        Cell::Computed(|object, _| json!(cells::load_balancer(object))),
    ),
    text(
        "Ports",
        "The ports it is served on.",
        Cell::Computed(|object, _| json!(cells::ingress_ports(object))),
    ),
    AGE,
];

pub(super) static INGRESS_CLASS: &[Column] = &[
    NAME,
    text(
        "Controller",
        "Who serves its Ingresses.",
        Cell::Path(".spec.controller"),
    ),
    text(
        "Parameters",
        "Where its settings stand.",
        Cell::Computed(|object, _| json!(cells::ingress_class_parameters(object))),
    ),
    AGE,
];

pub(super) static LEASE: &[Column] = &[
    NAME,
    text(
        "Holder",
        "Who holds it.",
        Cell::Path(".spec.holderIdentity"),
    ),
    AGE,
];

pub(super) static CUSTOM_RESOURCE_DEFINITION: &[Column] = &[
    NAME,
    text(
        "Created At",
        "When the object was made.",
        Cell::Path(".metadata.creationTimestamp"),
    ),
];

pub(super) static HTTP_ROUTE: &[Column] = &[
    NAME,
    text(
        "Hostnames",
        "The hosts that match.",
        Cell::Computed(|object, _| json!(cells::route_hostnames(object))),
    ),
    AGE,
];

pub(super) static GATEWAY: &[Column] = &[
    NAME,
    text("Class", "The class.", Cell::Path(".spec.gatewayClassName")),
    text(
        "Programmed",
        "Whether it takes requests.",
        Cell::Computed(|object, _| json!(cells::condition(object, "Programmed"))),
    ),
    AGE,
];

pub(super) static GATEWAY_CLASS: &[Column] = &[
    NAME,
    text(
        "Controller",
        "Who serves its Gateways.",
        Cell::Path(".spec.controllerName"),
    ),
    text(
        "Accepted",
        "Whether it is served.",
        Cell::Computed(|object, _| json!(cells::condition(object, "Accepted"))),
    ),
    AGE,
];

pub(super) static PLAIN: &[Column] = &[NAME, AGE];

pub(super) static VIRTUAL_SERVICE: &[Column] = &[
    NAME,
    text(
        "Gateways",
        "The Gateways that it names.",
        Cell::Path(".spec.gateways"),
    ),
    text("Hosts", "The hosts.", Cell::Path(".spec.hosts")),
    AGE,
];

pub(super) static DESTINATION_RULE: &[Column] = &[
    NAME,
    text("Host", "The Service.", Cell::Path(".spec.host")),
    AGE,
];

pub(super) static ROLLOUT: &[Column] = &[
    NAME,
    number(
        "Desired",
        "Pods that are wanted.",
        Cell::Computed(|object, _| json!(cells::wanted(object))),
    ),
    number(
        "Current",
        "Pods that are there.",
        Cell::Path(".status.replicas"),
    ),
    number(
        "Up-to-date",
        "Pods of the version that is wanted.",
        Cell::Path(".status.updatedReplicas"),
    ),
    number(
        "Available",
        "Pods that have been ready for long enough.",
        Cell::Path(".status.availableReplicas"),
    ),
    text(
        "Phase",
        "Where it stands, in one word.",
        Cell::Path(".status.phase"),
    ),
    AGE,
    text(
        "Strategy",
        "How a version comes to the users.",
        Cell::Computed(|object, _| json!(cells::rollout_strategy(object))),
    )
    .wide(),
    text(
        "Message",
        "Why it stands there.",
        Cell::Path(".status.message"),
    )
    .wide(),
];

pub(super) static ANALYSIS_TEMPLATE: &[Column] = &[NAME, AGE];

pub(super) static RELEASE_POLICY: &[Column] = &[NAME, AGE];

pub(super) static ANALYSIS_RUN: &[Column] = &[
    NAME,
    text(
        "Status",
        "Where it stands, in one word.",
        Cell::Path(".status.phase"),
    ),
    AGE,
    text("Message", "Why.", Cell::Path(".status.message")).wide(),
];
