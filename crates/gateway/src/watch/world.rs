//! The picture of the objects, and how far each of its lists is.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::runtime::watcher::Event;
use kube::{Client, Resource};
use serin_api::gateway_api::{Gateway, GatewayClass, HTTPRoute, ReferenceGrant};
use serin_api::istio::{DestinationRule, VirtualService};

use crate::names::{ObjectName, SourceKind};
use crate::objects::{Objects, PodLife, TlsSecret};

/// What the feed tells the control loop.
#[expect(
    clippy::large_enum_variant,
    reason = "an input lives for a moment in a bounded queue; a box for each would cost more"
)]
pub(crate) enum Input {
    /// The API has an address; every list will be read anew.
    Connected(Client),
    Service(Event<Service>),
    Slice(Event<EndpointSlice>),
    Ingress(Event<Ingress>),
    Class(Event<GatewayClass>),
    Gateway(Event<Gateway>),
    Namespace(Event<Namespace>),
    Route(Event<HTTPRoute>),
    Grant(Event<ReferenceGrant>),
    VirtualService(Event<VirtualService>),
    DestinationRule(Event<DestinationRule>),
    Secret(Event<TlsSecret>),
    Pod(Event<PodLife>),
    Replica(Event<Lease>),
    /// The API does not know the kind, so there are no objects of it.
    Unknown(Kind),
    /// The gateway may not read the kind; the words of the API.
    Forbidden(Kind, String),
}

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Service,
    Slice,
    Ingress,
    Class,
    Gateway,
    Namespace,
    Route,
    Grant,
    VirtualService,
    DestinationRule,
    Secret,
    Pod,
    Replica,
}

/// The objects, and how far their lists are.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) objects: Objects,
    /// The lists while they are read anew.
    pending: Objects,
    feeds: BTreeMap<Kind, Feed>,
}

/// How far one list is.
#[derive(Debug, Default)]
struct Feed {
    state: State,
    /// Whether it was whole once since the start of the process.
    was_read: bool,
}

#[derive(Debug, Default, PartialEq)]
enum State {
    /// Nothing is known of it.
    #[default]
    Waiting,
    /// It is read anew.
    Reading,
    Whole,
    Unknown,
    Forbidden(String),
}

impl Input {
    /// Whether it tells only how far another gateway is, which changes no table.
    pub(crate) fn is_of_another_gateway(&self) -> bool {
        matches!(self, Self::Replica(Event::Apply(_) | Event::Delete(_)))
    }
}

impl Kind {
    pub(crate) const ALL: [Self; 13] = [
        Self::Service,
        Self::Slice,
        Self::Ingress,
        Self::Class,
        Self::Gateway,
        Self::Namespace,
        Self::Route,
        Self::Grant,
        Self::VirtualService,
        Self::DestinationRule,
        Self::Secret,
        Self::Pod,
        Self::Replica,
    ];

    fn plural(self) -> &'static str {
        match self {
            Self::Service => "Services",
            Self::Slice => "EndpointSlices",
            Self::Ingress => "Ingresses",
            Self::Class => "GatewayClasses",
            Self::Gateway => "Gateways",
            Self::Namespace => "Namespaces",
            Self::Route => "HTTPRoutes",
            Self::Grant => "ReferenceGrants",
            Self::VirtualService => "VirtualServices",
            Self::DestinationRule => "DestinationRules",
            Self::Secret => "Secrets",
            Self::Pod => "Pods",
            Self::Replica => "Leases of other gateways",
        }
    }

    /// Whether without it nobody knows where an instance is, so that any table would be worse than the one in use.
    fn is_vital(self) -> bool {
        matches!(self, Self::Service | Self::Slice | Self::Pod)
    }

    /// The kind of the rules that are lowered from it.
    fn source(self) -> Option<SourceKind> {
        match self {
            Self::Route => Some(SourceKind::HttpRoute),
            Self::Ingress => Some(SourceKind::Ingress),
            Self::VirtualService => Some(SourceKind::VirtualService),
            _ => None,
        }
    }
}

impl Feed {
    /// Takes an event in: whether the picture is another one now, or another one comes.
    fn handle<K: Resource>(
        &mut self,
        current: &mut BTreeMap<ObjectName, K>,
        pending: &mut BTreeMap<ObjectName, K>,
        event: Event<K>,
    ) -> bool {
        match event {
            Event::Init => {
                pending.clear();
                // One that cannot be read is asked for again and again, mostly in vain.
                if matches!(self.state, State::Unknown | State::Forbidden(_)) {
                    return false;
                }
                self.state = State::Reading;
            }
            Event::InitApply(object) => {
                pending.insert(ObjectName::of(&object), object);
            }
            Event::InitDone => {
                *current = std::mem::take(pending);
                self.state = State::Whole;
                self.was_read = true;
            }
            Event::Apply(object) => {
                current.insert(ObjectName::of(&object), object);
                self.can_be_watched();
            }
            Event::Delete(object) => {
                current.remove(&ObjectName::of(&object));
                self.can_be_watched();
            }
        }
        true
    }

    /// The list was whole and then could not be watched; now it can.
    fn can_be_watched(&mut self) {
        if self.was_read && matches!(self.state, State::Forbidden(_)) {
            self.state = State::Whole;
        }
    }

    fn set(&mut self, state: State) -> bool {
        let is_new = self.state != state;
        self.state = state;
        is_new
    }
}

impl World {
    /// Takes one input in: whether the picture is another one now, or another one comes.
    pub(crate) fn handle(&mut self, input: Input) -> bool {
        let (objects, pending, feeds) = (&mut self.objects, &mut self.pending, &mut self.feeds);
        macro_rules! take {
            ($kind:ident, $list:ident, $event:ident) => {{
                let feed = feeds.entry(Kind::$kind).or_default();
                feed.handle(&mut objects.$list, &mut pending.$list, $event)
            }};
        }
        let is_news = match input {
            Input::Connected(_) => {
                for kind in Kind::ALL {
                    feeds.entry(kind).or_default().state = State::Waiting;
                }
                true
            }
            Input::Service(event) => take!(Service, services, event),
            Input::Slice(event) => take!(Slice, slices, event),
            Input::Ingress(event) => take!(Ingress, ingresses, event),
            Input::Class(event) => take!(Class, classes, event),
            Input::Gateway(event) => take!(Gateway, gateways, event),
            Input::Namespace(event) => take!(Namespace, namespaces, event),
            Input::Route(event) => take!(Route, routes, event),
            Input::Grant(event) => take!(Grant, grants, event),
            Input::VirtualService(event) => take!(VirtualService, virtual_services, event),
            Input::DestinationRule(event) => take!(DestinationRule, destination_rules, event),
            Input::Secret(event) => take!(Secret, secrets, event),
            Input::Pod(event) => take!(Pod, pods, event),
            Input::Replica(event) => take!(Replica, replicas, event),
            Input::Unknown(kind) => {
                objects.clear(kind);
                feeds.entry(kind).or_default().set(State::Unknown)
            }
            Input::Forbidden(kind, why) => {
                let feed = feeds.entry(kind).or_default();
                feed.set(State::Forbidden(why))
            }
        };
        if is_news {
            self.objects.unread = self.unread();
        }
        is_news
    }

    /// Whether a table may be made of the picture: every list is whole, or cannot be read and need not be.
    pub(crate) fn is_settled(&self) -> bool {
        Kind::ALL.iter().all(|kind| {
            let feed = self.feeds.get(kind);
            feed.is_some_and(|feed| match feed.state {
                State::Waiting | State::Reading => false,
                State::Whole | State::Unknown => true,
                State::Forbidden(_) => !kind.is_vital(),
            })
        })
    }

    /// What may not be read, as sentences.
    pub(crate) fn forbidden(&self) -> Vec<String> {
        let forbidden = self.feeds.iter().filter_map(|(kind, feed)| {
            let State::Forbidden(why) = &feed.state else {
                return None;
            };
            let then = if kind.is_vital() {
                "without them no route can change"
            } else {
                "what was last known of them is served"
            };
            let what = kind.plural();
            Some(format!(
                "{what} cannot be read, and {then}; let the gateway list and watch them: {why}"
            ))
        });
        forbidden.collect()
    }

    /// The kinds of rules of which nothing was ever read, though there may be some.
    fn unread(&self) -> BTreeSet<SourceKind> {
        let is_unread = |feed: &Feed| matches!(feed.state, State::Forbidden(_)) && !feed.was_read;
        let feeds = self.feeds.iter().filter(|(_, feed)| is_unread(feed));
        feeds.filter_map(|(kind, _)| kind.source()).collect()
    }
}

impl Objects {
    fn clear(&mut self, kind: Kind) {
        match kind {
            Kind::Service => self.services.clear(),
            Kind::Slice => self.slices.clear(),
            Kind::Ingress => self.ingresses.clear(),
            Kind::Class => self.classes.clear(),
            Kind::Gateway => self.gateways.clear(),
            Kind::Namespace => self.namespaces.clear(),
            Kind::Route => self.routes.clear(),
            Kind::Grant => self.grants.clear(),
            Kind::VirtualService => self.virtual_services.clear(),
            Kind::DestinationRule => self.destination_rules.clear(),
            Kind::Secret => self.secrets.clear(),
            Kind::Pod => self.pods.clear(),
            Kind::Replica => self.replicas.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> Service {
        let mut service = Service::default();
        service.metadata.name = Some(name.into());
        service
    }

    fn names(world: &World) -> Vec<&str> {
        let names = world.objects.services.keys();
        names.map(|name| name.name.as_str()).collect()
    }

    /// Every list is whole and empty.
    fn listed() -> World {
        let mut world = World::default();
        for kind in Kind::ALL {
            assert!(!world.is_settled());
            world.handle(Input::Unknown(kind));
        }
        world
    }

    #[test]
    fn a_picture_is_settled_when_every_list_is_whole() {
        let mut world = listed();
        assert!(world.is_settled());
        world.handle(Input::Service(Event::InitDone));
        world.handle(Input::Service(Event::Apply(service("a"))));
        world.handle(Input::Service(Event::Init));
        world.handle(Input::Service(Event::InitApply(service("b"))));
        assert!(!world.is_settled());
        assert_eq!(names(&world), ["a"]);
        world.handle(Input::Service(Event::InitDone));
        assert!(world.is_settled());
        assert_eq!(names(&world), ["b"]);
        world.handle(Input::Service(Event::Delete(service("b"))));
        assert!(world.objects.services.is_empty());
    }

    #[test]
    fn what_is_not_there_and_asked_for_again_is_no_news() {
        let mut world = listed();
        assert!(!world.handle(Input::Ingress(Event::Init)));
        assert!(!world.handle(Input::Unknown(Kind::Ingress)));
        assert!(world.is_settled());
    }

    #[test]
    fn a_kind_that_may_not_be_read_stands_in_nobodys_way_unless_nothing_goes_without_it() {
        let no = || "no right".to_owned();
        let mut world = listed();
        assert!(world.handle(Input::Forbidden(Kind::Route, no())));
        assert!(!world.handle(Input::Route(Event::Init)));
        assert!(!world.handle(Input::Forbidden(Kind::Route, no())));
        assert!(world.is_settled());
        assert_eq!(world.objects.unread, [SourceKind::HttpRoute].into());
        expect_test::expect![[r#"
            [
                "HTTPRoutes cannot be read, and what was last known of them is served; let the gateway list and watch them: no right",
            ]
        "#]]
        .assert_debug_eq(&world.forbidden());
        // The right is given.
        world.handle(Input::Route(Event::Init));
        assert!(world.handle(Input::Route(Event::InitDone)));
        assert!(world.forbidden().is_empty() && world.objects.unread.is_empty());

        world.handle(Input::Service(Event::InitDone));
        world.handle(Input::Service(Event::Apply(service("a"))));
        world.handle(Input::Forbidden(Kind::Service, no()));
        assert!(!world.is_settled(), "no table is made of what is not known");
        assert_eq!(names(&world), ["a"]);
        world.handle(Input::Service(Event::Init));
        world.handle(Input::Service(Event::InitDone));
        assert!(world.is_settled());
    }
}
