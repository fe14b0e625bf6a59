//! Group `sys`: what castoff is and what it can do, in the return shapes of Salt's module of this name.

use super::{Accepts, Argument, Call, Context, Default, Function, functions};
use crate::error::Result;
use crate::vocab::{Key, Map, Value, fnmatch};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::reads(
        "sys.argspec",
        "Return the argument specification of functions.\n\n    castoff call sys.argspec image.pack\n    castoff call sys.argspec sys\n    castoff call sys.argspec 'sys.*'",
        &[Argument::optional(
            "module",
            Accepts::Text,
            Default::Text(""),
            "A module, a function, or a pattern with `*`.",
        )],
        argspec,
    ),
    Function::reads(
        "sys.doc",
        "Return the documentation of functions: of all, or of some modules, functions or patterns with `*`.\n\n    castoff call sys.doc sys.doc\n    castoff call sys.doc test 'sys.list_*'",
        &[],
        doc,
    )
    .with_extra(),
    Function::reads(
        "sys.list_functions",
        "Return the names of functions: of all, or of some modules, functions or patterns with `*`.\n\n    castoff call sys.list_functions sys\n    castoff call sys.list_functions 'sys.list_*'",
        &[],
        list_functions,
    )
    .with_extra()
    .with_more(),
    Function::reads(
        "sys.list_modules",
        "Return the names of modules: of all, or of those that match a name or a pattern with `*`.\n\n    castoff call sys.list_modules 's*'",
        &[],
        list_modules,
    )
    .with_extra(),
    Function::reads(
        "sys.version",
        "Return castoff's name, version and what it was built with.\n\n    castoff call sys.version",
        &[],
        version,
    ),
];

/// The functions that one word of the caller selects.
fn selected(word: &str) -> impl Iterator<Item = &'static Function> + '_ {
    let pattern = word.contains('*');
    functions().into_iter().filter(move |function| {
        if pattern {
            fnmatch(word, function.name)
        } else {
            function.name == word || function.module() == word.strip_suffix('.').unwrap_or(word)
        }
    })
}

/// The words of a call, as text.
fn words(call: &Call) -> Vec<String> {
    call.extra.iter().map(crate::outputter::python::text).collect()
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of every function")]
fn doc(call: &Call, _: &Context) -> Result<Value> {
    let words = words(call);
    let chosen: Vec<_> =
        if words.is_empty() { functions() } else { words.iter().flat_map(|word| selected(word)).collect() };
    Ok(Value::map(chosen.into_iter().map(|function| (function.name, function.manual()))))
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of every function")]
fn list_functions(call: &Call, _: &Context) -> Result<Value> {
    let words = words(call);
    Ok(Value::list(
        functions()
            .into_iter()
            .map(|function| function.name)
            .filter(|name| words.is_empty() || words.iter().any(|word| selected(word).any(|one| one.name == *name))),
    ))
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of every function")]
fn list_modules(call: &Call, _: &Context) -> Result<Value> {
    let words = words(call);
    let wanted = |function: &&'static Function| {
        words.is_empty()
            || words
                .iter()
                .any(|word| if word.contains('*') { fnmatch(word, function.name) } else { function.module() == word })
    };
    let mut modules: Vec<&str> = functions().into_iter().filter(wanted).map(Function::module).collect();
    modules.dedup();
    Ok(Value::list(modules))
}

fn argspec(call: &Call, _: &Context) -> Result<Value> {
    let word = call.text("module")?;
    Ok(Value::map(selected(word).map(|function| (function.name, specification(function)))))
}

/// One function's signature in the shape of Salt's `argspec_report`.
fn specification(function: &Function) -> Value {
    let mut names: Vec<&str> = function.arguments.iter().map(|argument| argument.name).collect();
    let mut defaults: Vec<Value> =
        function.arguments.iter().filter_map(|argument| argument.default).map(Default::value).collect();
    if function.changes {
        names.push("test");
        defaults.push(Value::Bool(false));
    }
    let or_null = |list: Vec<Value>| if list.is_empty() { Value::Null } else { Value::List(list) };
    let flag = |set: bool| if set { Value::Bool(true) } else { Value::Null };
    Value::map([
        ("args", or_null(names.into_iter().map(Value::from).collect())),
        ("defaults", or_null(defaults)),
        ("varargs", flag(function.takes_extra)),
        ("kwargs", flag(function.takes_more)),
    ])
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of every function")]
fn version(_: &Call, _: &Context) -> Result<Value> {
    let features: Vec<&str> = [("docker", cfg!(feature = "docker"))]
        .into_iter()
        .filter_map(|(name, enabled)| enabled.then_some(name))
        .collect();
    Ok(Value::Map(Map::from_iter([
        (Key::from("name"), Value::from(env!("CARGO_PKG_NAME"))),
        (Key::from("version"), Value::from(env!("CARGO_PKG_VERSION"))),
        (Key::from("features"), Value::list(features)),
        (Key::from("system"), Value::from(std::env::consts::OS)),
        (Key::from("architecture"), Value::from(std::env::consts::ARCH)),
    ])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_named_documented_and_unique() {
        let mut names = std::collections::BTreeSet::new();
        for function in functions() {
            assert!(names.insert(function.name), "{} stands twice", function.name);
            assert!(function.name.split('.').count() == 2, "{}", function.name);
            assert!(function.summary().ends_with('.'), "{}: `{}`", function.name, function.summary());
            let mut optional = false;
            for argument in function.arguments {
                assert!(!argument.doc.is_empty(), "{} {}", function.name, argument.name);
                assert!(
                    !optional || argument.default.is_some(),
                    "{}: {} is required behind an optional one",
                    function.name,
                    argument.name
                );
                optional |= argument.default.is_some();
            }
        }
    }
}
