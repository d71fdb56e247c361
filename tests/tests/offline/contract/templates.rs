//! The templates, as far as they say what the documents say too.

use std::collections::BTreeMap;

use yaml_rust2::{Yaml, YamlLoader};

use super::files;

/// The templates of the stacks, by their names.
pub(crate) fn all() -> BTreeMap<String, Yaml> {
    let names = files::names("infra").into_iter();
    names
        .filter_map(|file| Some(file.strip_suffix(".yaml")?.to_owned()))
        .map(|name| {
            let text = files::text(&format!("infra/{name}.yaml"));
            // CloudFormation's tags fall away: what `!Ref X` leaves is X.
            let mut documents =
                YamlLoader::load_from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, documents.remove(0))
        })
        .collect()
}

/// The resources of a type in a template, by their logical ids.
pub(crate) fn of_type<'a>(template: &'a Yaml, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a Yaml)> {
    let resources = template["Resources"].as_hash().expect("a template has resources").iter();
    resources
        .filter(move |(_, resource)| resource["Type"].as_str() == Some(kind))
        .map(|(id, resource)| (id.as_str().unwrap(), &resource["Properties"]))
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Who may ask: `JWT`, `AWS_IAM` or `NONE`.
    pub(crate) authorization: String,
    /// Who answers.
    pub(crate) function: String,
}

/// Every route of the API, by method and path.
pub(crate) fn routes() -> BTreeMap<String, Route> {
    let templates = all();
    let mut routes = BTreeMap::new();
    for template in templates.values() {
        for (_, route) in of_type(template, "AWS::ApiGatewayV2::Route") {
            let text = |at: &Yaml, name: &str| {
                at[name].as_str().unwrap_or_else(|| panic!("{at:?} has no {name}")).to_owned()
            };
            let properties = |id: &str| &template["Resources"][id]["Properties"];
            // integrations/${PostsCreateIntegration}
            let target = text(route, "Target");
            let integration = target.trim_start_matches("integrations/${").trim_end_matches('}');
            // PostsCreate.Arn
            let uri = text(properties(integration), "IntegrationUri");
            let function = text(properties(uri.trim_end_matches(".Arn")), "FunctionName");
            let authorization = text(route, "AuthorizationType");
            routes.insert(text(route, "RouteKey"), Route { authorization, function });
        }
    }
    routes
}
