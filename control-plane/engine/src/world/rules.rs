//! The DestinationRules of one namespace, by name and by host.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use eastwest_model::{Host, Name, ObjectRef, policy::DestinationRule};

use super::{objects::Store, slices::remove_from};

/// DestinationRules with their hosts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    objects: BTreeMap<Name, Arc<DestinationRule>>,
    by_host: BTreeMap<Host, BTreeSet<Name>>,
}

impl Rules {
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<DestinationRule>> {
        self.objects.get(name)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Arc<DestinationRule>> {
        self.objects.values()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The hosts of rules that cover `host`, the most specific first (POLICY.md D2): the host itself, then
    /// wildcards from the longest to the shortest. The cost follows the length of the host, not the number of rules.
    pub(crate) fn hosts_covering(&self, host: &Host) -> impl Iterator<Item = &Host> {
        let text = host.wildcard_suffix().unwrap_or(host.as_str()).to_owned();
        let exact = if host.wildcard_suffix().is_some() { None } else { self.by_host.get_key_value(host) };
        let patterns = (0..=text.len())
            .filter(|_| !self.by_host.is_empty())
            .filter_map(move |at| text.get(at..).map(|suffix| Host::new(&format!("*{suffix}"))));
        exact
            .into_iter()
            .chain(patterns.filter_map(|pattern| self.by_host.get_key_value(&pattern)))
            .map(|(found, _)| found)
    }

    /// The rules for exactly this host, by name.
    pub(crate) fn of_host(&self, host: &Host) -> impl Iterator<Item = &Arc<DestinationRule>> {
        self.by_host.get(host).into_iter().flatten().filter_map(|name| self.objects.get(name))
    }
}

impl Store<DestinationRule> for Rules {
    fn get(&self, reference: &ObjectRef) -> Option<&Arc<DestinationRule>> {
        self.objects.get(&reference.name)
    }

    fn insert(&mut self, reference: &ObjectRef, rule: Arc<DestinationRule>) {
        self.remove(reference);
        let name = &reference.name;
        self.by_host.entry(rule.host.clone()).or_default().insert(name.clone());
        self.objects.insert(name.clone(), rule);
    }

    fn remove(&mut self, reference: &ObjectRef) {
        if let Some(rule) = self.objects.remove(&reference.name) {
            remove_from(&mut self.by_host, &rule.host, &*reference.name);
        }
    }

    fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}
