//! The picture of the objects, and how far each of its lists is.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::core::ApiResource;
use kube::runtime::watcher::Event;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serin_api::gateway_api::{Gateway, GatewayClass, HTTPRoute, ReferenceGrant};
use serin_api::istio::{DestinationRule, VirtualService};

use super::RawObject;
use crate::names::{ObjectName, Source, SourceKind};
use crate::objects::{Objects, PodLife, TlsSecret, trim, trim_pod};
use crate::replicas::trim_lease;

/// What the watches tell the control loop.
#[expect(
    clippy::large_enum_variant,
    reason = "an input lives for a moment in a bounded batch; a box for each would cost more"
)]
pub(crate) enum Input {
    /// The API has an address; every list will be read anew.
    Connected(Client),
    /// Of one object, or of how far the list of the kind is.
    Event(Kind, Event<RawObject>),
    /// The API does not know the kind, so there are no objects of it.
    Unknown(Kind),
    /// The gateway may not read the kind; the words of the API.
    Forbidden(Kind, String),
}

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// The objects that cannot be read, and why.
    unreadable: BTreeMap<ObjectName, String>,
    /// Those of the list that is read anew.
    pending_unreadable: BTreeMap<ObjectName, String>,
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
        matches!(
            self,
            Self::Event(Kind::Replica, Event::Apply(_) | Event::Delete(_))
        )
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

    /// What the API calls it.
    pub(crate) fn resource(self) -> ApiResource {
        match self {
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::Slice => ApiResource::erase::<EndpointSlice>(&()),
            Self::Ingress => ApiResource::erase::<Ingress>(&()),
            Self::Class => ApiResource::erase::<GatewayClass>(&()),
            Self::Gateway => ApiResource::erase::<Gateway>(&()),
            Self::Namespace => ApiResource::erase::<Namespace>(&()),
            Self::Route => ApiResource::erase::<HTTPRoute>(&()),
            Self::Grant => ApiResource::erase::<ReferenceGrant>(&()),
            Self::VirtualService => ApiResource::erase::<VirtualService>(&()),
            Self::DestinationRule => ApiResource::erase::<DestinationRule>(&()),
            Self::Secret => ApiResource::erase::<TlsSecret>(&()),
            Self::Pod => ApiResource::erase::<PodLife>(&()),
            Self::Replica => ApiResource::erase::<Lease>(&()),
        }
    }

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
    /// Takes an event in: whether the picture is another one now, or another one comes. An object that cannot be read stays as it
    /// was last known.
    fn handle<K: DeserializeOwned + Clone>(
        &mut self,
        current: &mut BTreeMap<ObjectName, K>,
        pending: &mut BTreeMap<ObjectName, K>,
        event: Event<RawObject>,
        trim: fn(&mut K),
    ) -> bool {
        let read = |object: &RawObject| {
            let mut read: K = object.read().map_err(|error| error.to_string())?;
            trim(&mut read);
            Ok::<_, String>(read)
        };
        match event {
            Event::Init => {
                pending.clear();
                self.pending_unreadable.clear();
                // One that cannot be read is asked for again and again, mostly in vain.
                if matches!(self.state, State::Unknown | State::Forbidden(_)) {
                    return false;
                }
                self.state = State::Reading;
            }
            Event::InitApply(object) => {
                let name = ObjectName::of(&object);
                match read(&object) {
                    Ok(object) => drop(pending.insert(name, object)),
                    Err(why) => {
                        let known = current.get(&name).cloned();
                        pending.extend(known.map(|known| (name.clone(), known)));
                        self.pending_unreadable.insert(name, why);
                    }
                }
            }
            Event::InitDone => {
                *current = std::mem::take(pending);
                self.unreadable = std::mem::take(&mut self.pending_unreadable);
                self.state = State::Whole;
                self.was_read = true;
            }
            Event::Apply(object) => {
                let name = ObjectName::of(&object);
                match read(&object) {
                    Ok(object) => {
                        self.unreadable.remove(&name);
                        current.insert(name, object);
                    }
                    Err(why) => drop(self.unreadable.insert(name, why)),
                }
                self.can_be_watched();
            }
            Event::Delete(object) => {
                let name = ObjectName::of(&object);
                self.unreadable.remove(&name);
                current.remove(&name);
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
        let is_news = match input {
            Input::Connected(_) => {
                for kind in Kind::ALL {
                    self.feeds.entry(kind).or_default().state = State::Waiting;
                }
                true
            }
            Input::Event(kind, event) => self.take(kind, event),
            Input::Unknown(kind) => {
                self.objects.clear(kind);
                let feed = self.feeds.entry(kind).or_default();
                feed.unreadable.clear();
                feed.set(State::Unknown)
            }
            Input::Forbidden(kind, why) => {
                let feed = self.feeds.entry(kind).or_default();
                feed.set(State::Forbidden(why))
            }
        };
        if is_news {
            self.objects.unread = self.unread();
            self.objects.unreadable = self.unreadable();
        }
        is_news
    }

    fn take(&mut self, kind: Kind, event: Event<RawObject>) -> bool {
        fn trim_meta<K: Resource>(object: &mut K) {
            trim(object.meta_mut());
        }
        let feed = self.feeds.entry(kind).or_default();
        macro_rules! take {
            ($list:ident, $trim:expr) => {{
                let (current, pending) = (&mut self.objects.$list, &mut self.pending.$list);
                feed.handle(current, pending, event, $trim)
            }};
        }
        match kind {
            Kind::Service => take!(services, trim_meta),
            Kind::Slice => take!(slices, trim_meta),
            Kind::Ingress => take!(ingresses, trim_meta),
            Kind::Class => take!(classes, trim_meta),
            Kind::Gateway => take!(gateways, trim_meta),
            Kind::Namespace => take!(namespaces, trim_meta),
            Kind::Route => take!(routes, trim_meta),
            Kind::Grant => take!(grants, trim_meta),
            Kind::VirtualService => take!(virtual_services, trim_meta),
            Kind::DestinationRule => take!(destination_rules, trim_meta),
            Kind::Secret => take!(secrets, trim_meta),
            Kind::Pod => take!(pods, trim_pod),
            Kind::Replica => take!(replicas, trim_lease),
        }
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

    /// The objects that cannot be read, as sentences.
    pub(crate) fn not_understood(&self) -> Vec<String> {
        let all = self.feeds.iter();
        let all = all.flat_map(|(kind, feed)| feed.unreadable.iter().map(move |one| (kind, one)));
        let sentences = all.map(|(kind, (name, why))| {
            let kind = kind.resource().kind;
            format!("{kind} {name} cannot be read, and what was last known of it is served: {why}")
        });
        sentences.collect()
    }

    /// The objects that rules come from, that cannot be read, and of which nothing was read since the start of the process.
    fn unreadable(&self) -> BTreeSet<Source> {
        let mut unreadable = BTreeSet::new();
        for (kind, feed) in &self.feeds {
            let Some(source) = kind.source() else {
                continue;
            };
            let names = feed.unreadable.keys();
            let names = names.filter(|name| !self.objects.has(source, name));
            unreadable.extend(names.map(|name| Source {
                kind: source,
                name: name.clone(),
            }));
        }
        unreadable
    }

    /// The kinds of rules of which nothing was ever read, though there may be some.
    fn unread(&self) -> BTreeSet<SourceKind> {
        let is_unread = |feed: &Feed| matches!(feed.state, State::Forbidden(_)) && !feed.was_read;
        let feeds = self.feeds.iter().filter(|(_, feed)| is_unread(feed));
        feeds.filter_map(|(kind, _)| kind.source()).collect()
    }
}

impl Objects {
    /// Whether an object is there that rules come from.
    fn has(&self, kind: SourceKind, name: &ObjectName) -> bool {
        match kind {
            SourceKind::HttpRoute => self.routes.contains_key(name),
            SourceKind::Ingress => self.ingresses.contains_key(name),
            SourceKind::VirtualService => self.virtual_services.contains_key(name),
            _ => false,
        }
    }

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

    fn raw(name: &str) -> RawObject {
        RawObject::of(&service(name))
    }

    fn of(kind: Kind, event: Event<RawObject>) -> Input {
        Input::Event(kind, event)
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
        world.handle(of(Kind::Service, Event::InitDone));
        world.handle(of(Kind::Service, Event::Apply(raw("a"))));
        world.handle(of(Kind::Service, Event::Init));
        world.handle(of(Kind::Service, Event::InitApply(raw("b"))));
        assert!(!world.is_settled());
        assert_eq!(names(&world), ["a"]);
        world.handle(of(Kind::Service, Event::InitDone));
        assert!(world.is_settled());
        assert_eq!(names(&world), ["b"]);
        world.handle(of(Kind::Service, Event::Delete(raw("b"))));
        assert!(world.objects.services.is_empty());
    }

    #[test]
    fn what_is_not_there_and_asked_for_again_is_no_news() {
        let mut world = listed();
        assert!(!world.handle(of(Kind::Ingress, Event::Init)));
        assert!(!world.handle(Input::Unknown(Kind::Ingress)));
        assert!(world.is_settled());
    }

    #[test]
    fn a_kind_that_may_not_be_read_stands_in_nobodys_way_unless_nothing_goes_without_it() {
        let no = || "no right".to_owned();
        let mut world = listed();
        assert!(world.handle(Input::Forbidden(Kind::Route, no())));
        assert!(!world.handle(of(Kind::Route, Event::Init)));
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
        world.handle(of(Kind::Route, Event::Init));
        assert!(world.handle(of(Kind::Route, Event::InitDone)));
        assert!(world.forbidden().is_empty() && world.objects.unread.is_empty());

        world.handle(of(Kind::Service, Event::InitDone));
        world.handle(of(Kind::Service, Event::Apply(raw("a"))));
        world.handle(Input::Forbidden(Kind::Service, no()));
        assert!(!world.is_settled(), "no table is made of what is not known");
        assert_eq!(names(&world), ["a"]);
        world.handle(of(Kind::Service, Event::Init));
        world.handle(of(Kind::Service, Event::InitDone));
        assert!(world.is_settled());
    }

    #[test]
    fn an_object_that_cannot_be_read_takes_no_other_with_it_and_stays_as_it_was_known() {
        let wrong = |name: &str| {
            RawObject::of(&serde_json::json!({"metadata": {"name": name}, "spec": {"rules": 7}}))
        };
        let right = |name: &str| {
            RawObject::of(&serde_json::json!({"metadata": {"name": name}, "spec": {}}))
        };
        let shown = |world: &World| {
            let known: Vec<_> = world.objects.routes.keys().map(|n| &*n.name).collect();
            let kept = world.objects.unreadable.iter();
            let kept: Vec<_> = kept.map(|source| &*source.name.name).collect();
            let told = world.not_understood().len();
            let (known, kept) = (known.join(" "), kept.join(" "));
            format!("known: {known}; kept of the table: {kept}; told: {told}")
        };
        let mut world = listed();
        world.handle(of(Kind::Route, Event::Init));
        world.handle(of(Kind::Route, Event::InitApply(right("a"))));
        world.handle(of(Kind::Route, Event::InitApply(wrong("b"))));
        world.handle(of(Kind::Route, Event::InitDone));
        assert!(world.is_settled());
        assert_eq!(shown(&world), "known: a; kept of the table: b; told: 1");
        expect_test::expect!["HTTPRoute default/b cannot be read, and what was last known of it is served: invalid type: integer `7`, expected a sequence at line 1 column 42"]
            .assert_eq(&world.not_understood().join("\n"));

        // One that was known stays so, through a list too.
        world.handle(of(Kind::Route, Event::Apply(wrong("a"))));
        assert_eq!(shown(&world), "known: a; kept of the table: b; told: 2");
        world.handle(of(Kind::Route, Event::Init));
        world.handle(of(Kind::Route, Event::InitApply(wrong("a"))));
        world.handle(of(Kind::Route, Event::InitDone));
        assert_eq!(shown(&world), "known: a; kept of the table: ; told: 1");

        world.handle(of(Kind::Route, Event::Apply(right("a"))));
        assert_eq!(shown(&world), "known: a; kept of the table: ; told: 0");
        world.handle(of(Kind::Route, Event::Apply(wrong("a"))));
        world.handle(of(Kind::Route, Event::Delete(wrong("a"))));
        assert_eq!(shown(&world), "known: ; kept of the table: ; told: 0");
    }
}
