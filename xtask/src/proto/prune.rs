//! Cuts a descriptor set down to the allow-list.
//!
//! A field goes when its message is not kept or its .proto file calls it deprecated. Options,
//! extensions and source locations go as well: nothing here reads them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use prost_types::field_descriptor_proto::Type;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    MessageOptions, ServiceDescriptorProto,
};

use super::allow::{AllowList, full_name};

/// What is left, and the fields that are not.
pub(super) struct Pruned {
    /// Files in dependency order, as they came.
    pub(super) files: FileDescriptorSet,
    /// `message.field: reason`, in the order of the files.
    pub(super) dropped: Vec<String>,
}

/// Keeps what the list names, the enums those messages use, and the files these are in.
///
/// # Errors
/// A listed name that does not exist, a nested message without its parent, a method or an enum
/// that refers to something not listed.
pub(super) fn prune(set: FileDescriptorSet, allowed: &AllowList) -> anyhow::Result<Pruned> {
    let mut pruner =
        Pruner { allowed, seen: BTreeSet::new(), used_enums: BTreeSet::new(), dropped: Vec::new() };
    let mut files = Vec::new();
    for file in set.file {
        files.push(pruner.file(file)?);
    }
    let missing = allowed.missing_from(&pruner.seen);
    if !missing.is_empty() {
        bail!("not in the API, or nested in a message that is not kept: {}", missing.join(", "));
    }
    for file in &mut files {
        pruner.drop_unused_enums(file);
    }
    files.retain(|file| {
        !(file.message_type.is_empty() && file.enum_type.is_empty() && file.service.is_empty())
    });
    link(&mut files)?;
    Ok(Pruned { files: FileDescriptorSet { file: files }, dropped: pruner.dropped })
}

struct Pruner<'a> {
    allowed: &'a AllowList,
    seen: BTreeSet<String>,
    used_enums: BTreeSet<String>,
    dropped: Vec<String>,
}

impl Pruner<'_> {
    fn file(&mut self, file: FileDescriptorProto) -> anyhow::Result<FileDescriptorProto> {
        let package = file.package().to_owned();
        let mut kept = FileDescriptorProto {
            name: file.name.clone(),
            package: file.package.clone(),
            syntax: file.syntax.clone(),
            enum_type: file.enum_type,
            ..Default::default()
        };
        for message in file.message_type {
            kept.message_type.extend(self.message(&package, message));
        }
        for service in file.service {
            kept.service.extend(self.service(&package, service)?);
        }
        Ok(kept)
    }

    fn message(&mut self, scope: &str, mut message: DescriptorProto) -> Option<DescriptorProto> {
        let name = full_name(scope, message.name());
        if !self.allowed.keeps(&name) {
            return None;
        }
        self.seen.insert(name.clone());

        // A map field's type is a nested entry message: it stays when the map's values do.
        let (mut entries, nested): (Vec<_>, Vec<_>) = message.nested_type.drain(..).partition(is_map_entry);
        entries.retain(|entry| entry.field.iter().all(|field| self.keeps_type(field)));
        self.retain_fields(&name, &mut message.field, &entries);
        entries.retain(|entry| message.field.iter().any(|f| is_of(f, &name, entry)));

        for field in entries.iter().flat_map(|entry| &entry.field) {
            self.note_enum(field);
        }
        for field in &message.field {
            self.note_enum(field);
        }
        message.nested_type = entries;
        for inner in nested {
            message.nested_type.extend(self.message(&name, inner));
        }
        renumber_oneofs(&mut message);
        Some(DescriptorProto {
            name: message.name,
            field: message.field,
            nested_type: message.nested_type,
            enum_type: message.enum_type,
            oneof_decl: message.oneof_decl,
            ..Default::default()
        })
    }

    /// Drops the fields of message `name` that are deprecated or whose type is not kept.
    fn retain_fields(
        &mut self,
        name: &str,
        fields: &mut Vec<FieldDescriptorProto>,
        entries: &[DescriptorProto],
    ) {
        fields.retain_mut(|field| {
            let deprecated = field.options.take().is_some_and(|o| o.deprecated());
            let known = self.keeps_type(field) || entries.iter().any(|entry| is_of(field, name, entry));
            if known && !deprecated {
                return true;
            }
            let reason = if deprecated { "deprecated" } else { field.type_name() };
            self.dropped.push(format!("{name}.{}: {reason}", field.name()));
            false
        });
    }

    /// Whether the field's type is a scalar, an enum or a listed message.
    fn keeps_type(&self, field: &FieldDescriptorProto) -> bool {
        match field.r#type() {
            Type::Message | Type::Group => self.allowed.keeps(field.type_name().trim_start_matches('.')),
            _ => true,
        }
    }

    fn note_enum(&mut self, field: &FieldDescriptorProto) {
        if field.r#type() == Type::Enum {
            self.used_enums.insert(field.type_name().to_owned());
        }
    }

    fn service(
        &mut self,
        package: &str,
        mut service: ServiceDescriptorProto,
    ) -> anyhow::Result<Option<ServiceDescriptorProto>> {
        let name = full_name(package, service.name());
        if !self.allowed.keeps(&name) {
            return Ok(None);
        }
        self.seen.insert(name.clone());
        service.options = None;
        for method in &mut service.method {
            method.options = None;
            for message in [method.input_type(), method.output_type()] {
                if !self.allowed.keeps(message.trim_start_matches('.')) {
                    bail!("{name}/{} needs {message}, which is not listed", method.name());
                }
            }
        }
        Ok(Some(service))
    }

    fn drop_unused_enums(&self, file: &mut FileDescriptorProto) {
        let scope = root_scope(file);
        self.retain_enums(&scope, &mut file.enum_type);
        for message in &mut file.message_type {
            self.drop_nested_enums(&scope, message);
        }
    }

    fn drop_nested_enums(&self, scope: &str, message: &mut DescriptorProto) {
        let scope = format!("{scope}.{}", message.name());
        self.retain_enums(&scope, &mut message.enum_type);
        for nested in &mut message.nested_type {
            self.drop_nested_enums(&scope, nested);
        }
    }

    fn retain_enums(&self, scope: &str, enums: &mut Vec<EnumDescriptorProto>) {
        enums.retain_mut(|item| {
            item.options = None;
            item.reserved_range.clear();
            item.reserved_name.clear();
            for value in &mut item.value {
                value.options = None;
            }
            self.used_enums.contains(&format!("{scope}.{}", item.name()))
        });
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(MessageOptions::map_entry)
}

/// Whether the field's type is `nested`, a message within the message `scope`.
fn is_of(field: &FieldDescriptorProto, scope: &str, nested: &DescriptorProto) -> bool {
    field.type_name() == format!(".{scope}.{}", nested.name())
}

/// Removes oneofs that lost all fields, and points the others' fields at the new positions.
fn renumber_oneofs(message: &mut DescriptorProto) {
    let used: BTreeSet<i32> = message.field.iter().filter_map(|f| f.oneof_index).collect();
    let position: BTreeMap<i32, i32> = used.iter().copied().zip(0..).collect();
    for field in &mut message.field {
        field.oneof_index = field.oneof_index.map(|old| position[&old]);
    }
    let all = std::mem::take(&mut message.oneof_decl);
    message.oneof_decl = (0..)
        .zip(all)
        .filter(|(index, _)| used.contains(index))
        .map(|(_, mut oneof)| {
            oneof.options = None;
            oneof
        })
        .collect();
}

/// Recomputes each file's imports from the types its messages and methods name.
fn link(files: &mut [FileDescriptorProto]) -> anyhow::Result<()> {
    let mut home = BTreeMap::new();
    for file in files.iter() {
        let scope = root_scope(file);
        for item in &file.enum_type {
            home.insert(format!("{scope}.{}", item.name()), file.name().to_owned());
        }
        for message in &file.message_type {
            declare(&scope, message, file.name(), &mut home);
        }
    }
    for file in files {
        let mut names = Vec::new();
        for message in &file.message_type {
            references(message, &mut names);
        }
        for method in file.service.iter().flat_map(|service| &service.method) {
            names.extend([method.input_type().to_owned(), method.output_type().to_owned()]);
        }
        let mut imports = BTreeSet::new();
        for name in names {
            match home.get(&name) {
                Some(import) if import == file.name() => {}
                Some(import) => {
                    imports.insert(import.clone());
                }
                None => bail!("{} refers to {name}, whose parent is not listed", file.name()),
            }
        }
        file.dependency = imports.into_iter().collect();
    }
    Ok(())
}

/// The scope of a file's names: a dot before the package, nothing without one.
fn root_scope(file: &FileDescriptorProto) -> String {
    if file.package().is_empty() { String::new() } else { format!(".{}", file.package()) }
}

fn declare(scope: &str, message: &DescriptorProto, file: &str, home: &mut BTreeMap<String, String>) {
    let name = format!("{scope}.{}", message.name());
    for item in &message.enum_type {
        home.insert(format!("{name}.{}", item.name()), file.to_owned());
    }
    for nested in &message.nested_type {
        declare(&name, nested, file, home);
    }
    home.insert(name, file.to_owned());
}

fn references(message: &DescriptorProto, names: &mut Vec<String>) {
    names.extend(message.field.iter().filter_map(|field| field.type_name.clone()));
    for nested in &message.nested_type {
        references(nested, names);
    }
}

#[cfg(test)]
mod tests;
