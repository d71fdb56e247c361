//! Reads the templates of the stacks, so that documents can be generated from them and compared with them.

use std::collections::BTreeMap;

use yaml_rust2::{Yaml, YamlLoader};

use crate::files;

/// The templates of the stacks, by their names.
pub fn all() -> BTreeMap<String, Yaml> {
    let names = files::names("infra").into_iter();
    names
        .filter_map(|file| Some(file.strip_suffix(".yaml")?.to_owned()))
        .map(|name| {
            let text = files::text(&format!("infra/{name}.yaml"));
            // The parser drops CloudFormation's tags: `!Ref X` is read as X.
            let mut documents =
                YamlLoader::load_from_str(&text).unwrap_or_else(|error| panic!("infra/{name}.yaml: {error}"));
            (name, documents.remove(0))
        })
        .collect()
}

/// The resources of a type in a template, by their logical ids.
pub fn of_type<'a>(template: &'a Yaml, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a Yaml)> {
    let resources = template["Resources"].as_hash().expect("a template has resources").iter();
    resources
        .filter(move |(_, resource)| resource["Type"].as_str() == Some(kind))
        .map(|(id, resource)| (id.as_str().unwrap(), &resource["Properties"]))
}
